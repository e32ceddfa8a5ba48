"""Each key of the policy is shown by a case in which it changes the decision."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.retrain_policy import RetrainSpec
from factory_assets.core.retraining.confirmation import Verdict, confirm_failure
from factory_assets.core.retraining.due import evaluate_new_rows, evaluate_schedule
from factory_assets.lines.retrain_situation import apply_strategy
from tests.core.retraining.factory import HOUR, NOW, WALL, Factory, drift_policy, failed


def decide(policy, *checks, serving=None):
    factory = Factory(policy, serving=serving or {"all": 3}).fail(checks)
    decision = factory.tick()
    return decision, factory


def triggers_of(decision):
    return [request.triggers for request in decision.requests]


def test_a_rule_of_two_triggers_needs_both_for_the_same_segment():
    both = drift_policy(triggers=["feature_drift + prediction_drift"])
    drift = failed("feature_drift", 1, segments=("a", "b"))
    scores = failed("prediction_drift", 1, segments=("b", "c"))
    assert not decide(both, drift, serving=dict.fromkeys("abc", 1))[0].requests
    decision, _ = decide(both, drift, scores, serving=dict.fromkeys("abc", 1))
    assert [request.segments for request in decision.requests] == [("b",)]
    either = drift_policy(triggers=["feature_drift", "prediction_drift"])
    decision, _ = decide(either, drift, scores, serving=dict.fromkeys("abc", 1))
    assert [request.segments for request in decision.requests] == [("a", "b", "c")]


def test_a_rule_may_act_and_train_otherwise_than_the_line():
    policy = drift_policy(
        triggers=[
            "model_age",
            {"when": "prediction_drift", "action": "alert_only"},
            {"when": "feature_drift", "strategy": "full"},
        ]
    )
    decision, factory = decide(policy, failed("prediction_drift"))
    assert (decision.requests, factory.states()) == ((), ["open", "raised"])
    assert decide(policy, failed("model_age"))[0].requests[0].strategy == "changed_segments"
    assert decide(policy, failed("feature_drift"))[0].requests[0].strategy == "full"
    assert decide(policy, failed("feature_drift"), failed("model_age"))[0].requests[0].strategy == "full", "the widest"
    decision, _ = decide(policy, failed("prediction_drift"), failed("model_age"))
    assert triggers_of(decision) == [("model_age",)], "retraining goes before alerting"


@pytest.mark.parametrize(
    ("keys", "request_has"),
    [
        ({"strategy": "full"}, ("full", ())),
        ({"strategy": "changed_segments"}, ("changed_segments", ("a",))),
        ({"strategy": "sliding_window", "window": "30d"}, ("sliding_window", ("a",))),
    ],
)
def test_the_strategy_says_what_is_trained(keys, request_has):
    decision, _ = decide(drift_policy(**keys), failed(version=1, segments=("a",)), serving={"a": 1, "b": 1})
    (request,) = decision.requests
    assert (request.strategy, request.segments) == request_has


def test_the_window_is_what_a_sliding_retrain_learns_from(build_spec):
    spec: ModelLineSpec = build_spec(retrain={"strategy": "sliding_window", "window": "30d"})
    assert apply_strategy(spec, "sliding_window").validation.window == timedelta(days=30)
    assert apply_strategy(spec, "full").validation.window is None
    assert apply_strategy(spec, None) == spec


def test_the_action_decides_between_a_run_and_a_person():
    assert decide(drift_policy(action="retrain"), failed())[0].requests
    decision, factory = decide(drift_policy(action="alert_only"), failed())
    assert not decision.requests
    assert factory.newest()[0].next_step == "person"


@pytest.mark.parametrize(("rows", "due"), [(99, False), (100, True)])
def test_new_rows_are_due_from_their_limit_on(rows, due):
    policy = drift_policy(triggers=["new_rows"], new_rows=100)
    check = evaluate_new_rows(policy, rows, 0, NOW, {"all": 3}, WALL)
    assert (check is not None) == due
    if check:
        assert triggers_of(decide(policy, check)[0]) == [("new_rows",)]


@pytest.mark.parametrize(
    ("rows", "learnable", "due"),
    [(49, 1_000, False), (50, 1_000, True), (499, 10_000, False), (500, 10_000, True), (0, 0, False)],
)
def test_a_share_of_new_rows_asks_for_more_the_more_there_was_to_learn_from(rows, learnable, due):
    policy = drift_policy(triggers=["new_rows"], new_rows="5%")
    check = evaluate_new_rows(policy, rows, learnable, NOW, {"all": 3}, WALL)
    assert (check is not None) == due
    if check:
        assert f"(5% of {learnable:,})" in check.summary


@pytest.mark.parametrize("wrong", ["0%", "5", True, "-1%", "%", "a few %", 0, 2.5])
def test_new_rows_are_a_whole_number_or_a_share(wrong):
    with pytest.raises(ValidationError):
        drift_policy(triggers=["new_rows"], new_rows=wrong)


def test_a_schedule_is_due_once_for_each_instant():
    policy = drift_policy(triggers=["schedule"], schedule="0 3 * * 1")
    check = evaluate_schedule(NOW, NOW - HOUR, {"all": 3}, WALL)
    assert triggers_of(decide(policy, check)[0]) == [("schedule",)]
    assert evaluate_schedule(NOW, NOW, {"all": 3}, WALL) is None
    assert evaluate_schedule(NOW, NOW + HOUR, {"all": 3}, WALL) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"triggers": ["drift"]},
        {"triggers": ["feature_drift + drift"]},
        {"triggers": ["new_rows"]},
        {"new_rows": 10},
        {"triggers": ["schedule"]},
        {"schedule": "0 3 * * 1"},
        {"strategy": "sliding_window"},
        {"window": "30d"},
        {"triggers": [{"when": "model_age", "strategy": "some"}]},
    ],
)
def test_a_policy_that_does_not_fit_together_is_refused(wrong):
    with pytest.raises(ValidationError):
        RetrainSpec.model_validate(wrong)


def test_names_alone_are_still_a_policy():
    assert drift_policy(triggers=["feature_drift", "model_age"]).named_triggers == ("feature_drift", "model_age")


def verdict(day, *segments, version=3):
    check = failed(version=version, data_day=day, segments=segments) if segments else None
    return Verdict(NOW.replace(day=day), check and check)


def test_a_failure_is_confirmed_by_states_of_the_data_and_not_by_how_often_it_is_judged():
    newest_first = [verdict(9, "a"), verdict(9, "a"), verdict(8, "a", "b"), verdict(7)]
    assert confirm_failure(newest_first, 1).segments == ("a",)
    assert confirm_failure(newest_first, 2).segments == ("a",)
    assert confirm_failure(newest_first, 3) is None
    assert confirm_failure(newest_first[:2], 2) is None
    assert confirm_failure([verdict(9, "a"), verdict(8, "b")], 2) is None
    assert confirm_failure([verdict(9), verdict(8, "b")], 1) is None
    assert confirm_failure([], 1) is None


def test_a_line_without_a_model_does_not_wait_for_a_second_verdict():
    assert confirm_failure([verdict(9, "all", version=0)], 5) is not None
