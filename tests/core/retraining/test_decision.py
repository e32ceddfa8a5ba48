from dataclasses import replace
from datetime import timedelta

import pytest

from factory_assets.contracts.retrain_policy import RetrainSpec
from factory_assets.contracts.retraining import Cause, FailedCheck, RunFact
from tests.core.retraining.factory import HOUR, LINE, MINUTE, NOW, POLICY, WALL, Factory, drift_policy, failed


def only_request(decision):
    (request,) = decision.requests
    return request


def test_a_failed_check_opens_a_cause_and_asks_for_one_run():
    factory = Factory().fail([failed()])
    request = only_request(factory.tick())
    assert request.attempt == 1
    assert request.triggers == ("feature_drift",)
    assert request.evidence == {"feature_drift": "9@run-9"}
    assert "feature_drift of day 9" in request.reason
    assert factory.states() == ["open", "requested"]
    (entry,) = factory.newest()
    assert entry.cause.key == "arrival_delay/all/feature_drift/v3/2013-07-09T00:00:00Z"
    assert entry.next_step == "start"


def test_nothing_failed_asks_for_nothing_and_says_so():
    decision = Factory().tick()
    assert (decision.entries, decision.requests) == ((), ())
    assert decision.reason == "No check that starts a retrain is failing."


def test_checks_outside_the_policy_start_nothing():
    only_age = drift_policy(triggers=("model_age",))
    assert not Factory(only_age).fail([failed("feature_drift")]).tick().requests
    assert Factory(only_age).fail([failed("model_age")]).tick().requests


def test_a_verdict_on_a_model_that_no_longer_serves_starts_nothing():
    assert not Factory().fail([failed(version=2)]).tick().entries


def test_the_same_failure_seen_again_is_no_news():
    factory = Factory().fail([failed()])
    factory.tick()
    again = [replace(failed(), evaluation_id=99, run_id="another", summary="in other words")]
    decision = factory.wait(MINUTE).fail(again).tick()
    assert (decision.entries, decision.requests) == ((), ())


def test_newer_data_on_an_open_cause_is_no_new_cause():
    factory = Factory().fail([failed(data_day=9)])
    factory.tick()
    assert factory.wait(HOUR).fail([failed(data_day=10)]).tick().entries == ()


def test_a_cause_needs_a_time_zone():
    with pytest.raises(ValueError, match="timezone-aware"):
        _ = Cause(LINE, "all", "feature_drift", 3, NOW.replace(tzinfo=None)).key


def test_all_causes_of_a_tick_go_into_one_run():
    factory = Factory().fail([failed("feature_drift"), failed("prediction_drift"), failed("model_age")])
    request = only_request(factory.tick())
    assert request.triggers == ("feature_drift", "model_age", "prediction_drift")
    assert {entry.run_key for entry in factory.newest()} == {request.run_key}


def test_while_a_run_is_judging_only_what_is_in_flight_moves():
    factory = Factory().fail([failed()])
    decision = factory.tick(judging="run-5")
    assert (decision.entries, decision.requests) == ((), ())
    assert "still judging" in decision.reason
    request = only_request(factory.tick())
    factory.end(request.run_key, "failed")
    assert [entry.state for entry in factory.tick(judging="run-5").entries] == ["failed"]


@pytest.mark.parametrize("state", ["waiting", None])
def test_a_crash_between_ledger_and_launch_asks_again_under_the_same_run_key(state):
    factory = Factory().fail([failed()])
    first = only_request(factory.tick(killed=True))
    if state:
        factory.runs[first.run_key] = RunFact(state, "run-1", "not started")
    factory.fail([failed(), failed("model_age")])
    decision = factory.decide()
    assert decision.requests[0].run_key == first.run_key
    assert {entry.state for entry in decision.entries if entry.cause.trigger == "feature_drift"} == set()


@pytest.mark.parametrize("state", ["promoted", "kept_champion"])
def test_a_resolved_cause_is_settled_for_ever(state):
    factory = Factory().fail([failed()])
    factory.end(only_request(factory.tick()).run_key, state)
    factory.serving["all"] = 3
    decision = factory.wait(1000 * HOUR).tick()
    assert not decision.requests
    assert "Already answered" in decision.reason


def test_entries_of_another_line_say_nothing_about_this_one():
    other = Factory(line="another").fail([failed()])
    other.end(only_request(other.tick()).run_key, "kept_champion")
    assert Factory(book=other.book).fail([failed()]).tick().requests


def test_a_failed_attempt_is_tried_again_after_a_backoff_that_doubles_and_then_by_a_person():
    factory, keys = Factory().fail([failed()]), []
    for attempt, minutes in ((1, 10), (2, 20), (3, None)):
        request = only_request(factory.tick())
        assert request.attempt == attempt
        keys.append(request.run_key)
        factory.claim(request.run_key)
        factory.end(request.run_key, "failed")
        decision = factory.tick()
        assert not decision.requests
        if minutes:
            assert "waiting until" in decision.reason
            assert not factory.wait(timedelta(minutes=minutes - 1)).tick().requests
            factory.wait(MINUTE)
    assert len(set(keys)) == 3
    (entry,) = factory.newest()
    assert (entry.state, entry.next_step, entry.failures) == ("raised", "person", 3)
    assert "need a person" in factory.wait(1000 * HOUR).tick().reason


def test_a_raised_cause_does_not_silence_newer_data_for_ever():
    factory = Factory(drift_policy(max_attempts=1, cooldown="24h")).fail([failed(data_day=8)])
    factory.end(only_request(factory.tick()).run_key, "failed")
    factory.tick()
    assert factory.newest()[0].state == "raised"
    assert not factory.wait(23 * HOUR).fail([failed(data_day=9)]).tick().requests
    assert only_request(factory.wait(HOUR).tick()).attempt == 1
    assert [entry.state for entry in factory.newest()] == ["requested"]


def test_a_raised_cause_ends_when_its_check_passes():
    factory = Factory(drift_policy(max_attempts=1)).fail([failed()])
    factory.end(only_request(factory.tick()).run_key, "failed")
    factory.tick()
    factory.fail([]).tick()
    assert factory.newest() == []
    assert factory.states()[-1] == "superseded"


def test_the_cooldown_defers_new_causes_by_the_factory_clock_and_says_until_when():
    factory = Factory().fail([failed()])
    factory.end(only_request(factory.tick()).run_key, "kept_champion")
    factory.fail([failed(data_day=10)])
    factory.wall += 1000 * HOUR
    factory.now += 23 * HOUR
    decision = factory.tick()
    assert not decision.requests
    assert "2013-07-11T06:00:00+00:00" in decision.reason
    (entry,) = factory.newest()
    assert (entry.state, entry.next_step, entry.next_step_at_utc) == ("open", "cooldown", NOW + 24 * HOUR)
    assert factory.tick().entries == (), "a tick without news writes nothing"
    factory.now += HOUR
    assert factory.tick().requests


def test_a_check_that_passes_again_takes_its_waiting_cause_with_it():
    factory = Factory().fail([failed()])
    factory.end(only_request(factory.tick()).run_key, "kept_champion")
    factory.wait(HOUR).fail([failed(data_day=10)]).tick()
    (step,) = factory.fail([]).tick().entries
    assert step.state == "superseded"
    assert [entry.state for entry in factory.fail([failed(data_day=10)]).tick().entries] == ["open", "open"]


def test_a_check_that_flaps_for_twenty_ticks_has_one_retrain():
    factory, asked = Factory(drift_policy(cooldown="1w")), 0
    for tick in range(20):
        factory.wait(HOUR).fail([failed(data_day=1 + tick, version=factory.serving["all"])] if tick % 2 == 0 else [])
        for request in factory.tick().requests:
            asked += 1
            factory.end(request.run_key, "promoted")
    assert asked == 1


def test_a_retry_does_not_wait_for_a_cooldown_and_takes_new_causes_along():
    factory = Factory().fail([failed("model_age")])
    factory.end(only_request(factory.tick()).run_key, "kept_champion")
    factory.wait(25 * HOUR).fail([failed(data_day=9)])
    first = only_request(factory.tick())
    factory.end(first.run_key, "failed")
    factory.tick()
    factory.wait(11 * MINUTE).fail([failed(data_day=9), failed("prediction_drift", data_day=10)])
    request = only_request(factory.tick())
    assert (request.attempt, len(request.triggers)) == (2, 2)


def test_a_failed_attempt_also_holds_back_causes_that_came_later():
    factory = Factory().fail([failed()])
    factory.end(only_request(factory.tick()).run_key, "failed")
    factory.tick()
    factory.fail([failed(), failed("model_age")])
    assert not factory.wait(9 * MINUTE).tick().requests
    assert only_request(factory.wait(MINUTE).tick()).triggers == ("feature_drift", "model_age")


def test_an_attempt_that_was_lost_is_tried_again_at_once_under_a_new_key_and_is_no_failure():
    factory = Factory(drift_policy(max_attempts=1)).fail([failed()])
    first = only_request(factory.tick())
    factory.end(first.run_key, "lost")
    second = only_request(factory.tick())
    assert second.attempt == 2
    assert second.run_key != first.run_key


def test_a_retrain_cut_off_after_its_promotion_is_finished():
    factory = Factory().fail([failed()])
    request = only_request(factory.tick())
    factory.claim(request.run_key)
    factory.serving["all"] = 4
    factory.end(request.run_key, "lost")
    assert only_request(factory.tick()).attempt == 2


def test_a_run_without_an_answer_in_time_expires_is_stopped_and_frees_its_place():
    factory = Factory().fail([failed()])
    request = only_request(factory.tick())
    factory.claim(request.run_key)
    assert factory.wait(4 * HOUR - MINUTE).tick().entries == ()
    decision = factory.wait(MINUTE).tick()
    assert [entry.state for entry in decision.entries] == ["expired"]
    assert decision.stop_run_ids == (factory.runs[request.run_key].run_id,)
    assert factory.tick().stop_run_ids, "killed before it was stopped, it is stopped by the next tick"
    assert only_request(factory.wait(11 * MINUTE).tick()).attempt == 2


def test_a_request_that_never_became_a_run_expires_too():
    factory = Factory().fail([failed()])
    factory.tick(killed=True)
    decision = factory.wait(4 * HOUR).tick(killed=True)
    assert decision.entries[0].state == "expired"


def test_a_run_that_vanished_from_the_record_is_a_failure():
    factory = Factory().fail([failed()])
    request = only_request(factory.tick())
    factory.claim(request.run_key)
    del factory.runs[request.run_key]
    assert [entry.state for entry in factory.tick().entries] == ["failed"]


def test_backoff_cannot_overflow_the_calendar():
    factory = Factory(drift_policy(max_attempts=10_000, backoff="52w", timeout="52w")).fail([failed()])
    request = only_request(factory.tick())
    factory.book.write([replace(factory.newest()[0], failures=5_000)], factory.book.sequence)
    factory.end(request.run_key, "failed")
    assert not factory.tick().requests


def test_a_hundred_segments_that_fail_together_are_one_run():
    segments = tuple(f"s{number}" for number in range(100))
    factory = Factory(serving=dict.fromkeys(segments, 2)).fail([failed(version=2, segments=segments)])
    request = only_request(factory.tick())
    assert set(request.segments) == set(segments)
    factory.end(request.run_key, "promoted")
    assert not factory.tick().requests, "the verdict is older than the answer"


def test_each_segment_cools_down_by_itself():
    factory = Factory(serving={"a": 1, "b": 1}).fail([failed(version=1, segments=("a",))])
    factory.end(only_request(factory.tick()).run_key, "kept_champion")
    factory.wait(HOUR).fail([failed(version=1, data_day=10, segments=("a", "b"))])
    assert only_request(factory.tick()).segments == ("b",)
    assert {entry.cause.segment: entry.next_step for entry in factory.newest()} == {"a": "cooldown", "b": "start"}


def test_a_decision_names_no_run_twice_and_forgets_nothing_when_asked_again():
    factory = Factory().fail([failed()])
    first, second = factory.decide(), factory.decide()
    assert first == second


def changed(**keys):
    return RetrainSpec.model_validate({**POLICY.model_dump(), **keys})


@pytest.mark.parametrize("field", ["cooldown", "max_attempts", "backoff", "timeout"])
def test_each_limit_of_the_policy_changes_the_decision(field):
    def outcome(policy):
        factory = Factory(policy).fail([failed()])
        request = only_request(factory.tick())
        if field == "cooldown":
            factory.end(request.run_key, "kept_champion")
            factory.wait(2 * HOUR).fail([failed(data_day=10)])
        elif field != "timeout":
            factory.end(request.run_key, "failed")
            factory.tick()
            factory.wait(2 * HOUR)
        else:
            factory.wait(2 * HOUR)
        decision = factory.tick()
        return [entry.state for entry in factory.newest()], bool(decision.requests)

    value = {"cooldown": "1h", "max_attempts": 1, "backoff": "3h", "timeout": "1h"}[field]
    assert outcome(POLICY) != outcome(changed(**{field: value}))


@pytest.mark.parametrize("wall", [WALL, WALL - HOUR])
def test_a_verdict_on_a_fleet_counts_only_when_it_is_newer_than_the_answer(wall):
    factory = Factory(serving={"a": 1}).fail([failed(version=1, segments=("a",))])
    factory.end(only_request(factory.tick()).run_key, "kept_champion")
    factory.wait(48 * HOUR)
    factory.failing = [replace(failed(version=1, data_day=10, segments=("a",)), evaluated_at_utc=wall)]
    assert not factory.tick().requests
    assert isinstance(factory.failing[0], FailedCheck)
    factory.fail(factory.failing)
    assert factory.tick().requests
