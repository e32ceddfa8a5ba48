from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory_assets.contracts.model_line import RetrainSpec, Trigger
from factory_assets.contracts.reports import FailedCheck, LedgerEntry
from factory_assets.core.retraining import cause_key, decide_retraining

LINE = "arrival_delay"
NOW = datetime(2013, 7, 10, 6, tzinfo=UTC)
WALL = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = RetrainSpec(cooldown="24h", max_attempts=3, backoff="10m")
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def _failed(check="feature_drift", version=3, data_day=9):
    data = datetime(2013, 7, data_day, tzinfo=UTC)
    return FailedCheck(check, data_day, f"run-{data_day}", version, data, f"{check} of day {data_day}")


def _entry(decision, state, at=NOW, recorded=WALL):
    return LedgerEntry(LINE, decision.run_key, decision.attempt, decision.causes, state, at, recorded, "")


def _decide(failed, ledger=(), policy=POLICY, now=NOW, wall=WALL, active=None):
    return decide_retraining(LINE, policy, failed, ledger, now, wall, active)


def test_a_failed_check_asks_for_one_run_named_by_line_cause_and_attempt():
    decision = _decide([_failed()])
    assert decision.request
    assert decision.attempt == 1
    assert decision.causes == ("arrival_delay/feature_drift/v3/2013-07-09T00:00:00Z",)
    line, digest, attempt = decision.run_key.split(":")
    assert (line, len(digest), attempt) == (LINE, 12, "1")
    assert decision.checks == (_failed(),)
    assert "feature_drift of day 9" in decision.reason


def test_nothing_failed_asks_for_nothing_and_says_so():
    assert _decide([]).reason == "No check that starts a retrain is failing."


def test_checks_outside_the_policy_start_nothing():
    only_age = RetrainSpec(triggers=("model_age",))
    assert not _decide([_failed("feature_drift")], policy=only_age).request
    assert _decide([_failed("model_age")], policy=only_age).request


def test_a_cause_is_the_same_however_often_and_wherever_its_check_runs():
    again = replace(_failed(), evaluation_id=99, run_id="another", summary="in other words")
    assert cause_key(LINE, again) == cause_key(LINE, _failed())
    others = [_failed(version=4), _failed(data_day=8), _failed("prediction_drift")]
    assert len({cause_key(LINE, check) for check in [_failed(), *others]}) == 4


def test_a_cause_needs_a_time_zone():
    naive = replace(_failed(), data_as_of_utc=NOW.replace(tzinfo=None))
    with pytest.raises(ValueError, match="timezone-aware"):
        cause_key(LINE, naive)


def test_all_new_causes_go_into_one_request_whatever_their_order():
    checks = [_failed("feature_drift"), _failed("prediction_drift"), _failed("model_age")]
    decision = _decide(checks)
    assert len(decision.causes) == 3
    assert len(decision.checks) == 3
    assert _decide(checks[::-1]).run_key == decision.run_key
    assert _decide(checks[:2]).run_key != decision.run_key


def test_the_same_question_has_the_same_run_key_at_any_time():
    later = _decide([_failed()], now=NOW + 100 * HOUR, wall=WALL + 100 * HOUR)
    assert later.run_key == _decide([_failed()]).run_key


def test_an_active_run_is_waited_for():
    decision = _decide([_failed()], active="run-7")
    assert not decision.request
    assert "run-7" in decision.reason


def test_a_crash_between_ledger_and_run_asks_again_under_the_same_run_key():
    first = _decide([_failed()])
    again = _decide([_failed(), _failed("model_age")], [_entry(first, "requested")])
    assert again.request
    assert (again.run_key, again.attempt, again.causes) == (first.run_key, first.attempt, first.causes)


@pytest.mark.parametrize("state", ["promoted", "kept_champion"])
def test_a_resolved_cause_is_settled_for_ever(state):
    first = _decide([_failed()])
    entries = [_entry(first, "requested"), _entry(first, state)]
    decision = _decide([_failed()], entries, now=NOW + 1000 * HOUR, wall=WALL + 1000 * HOUR)
    assert not decision.request
    assert "Already answered" in decision.reason


@pytest.mark.parametrize("late", ["failed", "requested"])
def test_a_late_entry_does_not_reopen_what_is_settled(late):
    first = _decide([_failed()])
    entries = [_entry(first, "promoted"), _entry(first, late, recorded=WALL + HOUR)]
    assert not _decide([_failed()], entries, wall=WALL + 100 * HOUR).request


def test_entries_of_another_line_say_nothing_about_this_one():
    first = _decide([_failed()])
    other = replace(_entry(first, "promoted"), line="another")
    assert _decide([_failed()], [other]).request


def test_a_failed_attempt_is_tried_again_after_a_backoff_that_doubles():
    entries, wall, keys = [], WALL, []
    for attempt, wait in ((1, 10), (2, 20)):
        decision = _decide([_failed()], entries, wall=wall)
        assert decision.request
        assert decision.attempt == attempt
        keys.append(decision.run_key)
        entries += [_entry(decision, "requested", recorded=wall), _entry(decision, "failed", recorded=wall + MINUTE)]
        early = _decide([_failed()], entries, wall=wall + MINUTE * wait)
        assert not early.request
        assert f"Attempt {attempt} failed: waiting until" in early.reason
        wall += MINUTE * (wait + 1)
    last = _decide([_failed()], entries, wall=wall)
    assert last.request
    assert last.attempt == 3
    assert last.run_key not in keys


def test_after_the_last_attempt_a_person_is_asked_and_other_causes_go_on():
    once = RetrainSpec(max_attempts=1)
    first = _decide([_failed()], policy=once)
    entries = [_entry(first, "failed")]
    later = WALL + HOUR
    stuck = _decide([_failed()], entries, policy=once, wall=later)
    assert not stuck.request
    assert "need a person" in stuck.reason
    other = _decide([_failed(), _failed("model_age")], entries, policy=once, wall=later)
    assert other.request
    assert other.causes == (cause_key(LINE, _failed("model_age")),)
    assert "need a person" in other.reason


def test_the_cooldown_defers_new_causes_by_the_factory_clock():
    first = _decide([_failed()])
    entries = [_entry(first, "kept_champion", at=NOW)]
    newer = [_failed(data_day=10)]
    early = _decide(newer, entries, now=NOW + 23 * HOUR, wall=WALL + 1000 * HOUR)
    assert not early.request
    assert "2013-07-11T06:00:00+00:00" in early.reason
    assert _decide(newer, entries, now=NOW + 24 * HOUR).request


def test_a_failed_attempt_starts_no_cooldown_and_a_retry_does_not_wait_for_one():
    settled = replace(_entry(_decide([_failed("model_age")]), "promoted"), recorded_at_utc=WALL - HOUR)
    failed = _entry(_decide([_failed()]), "failed")
    retry = _decide([_failed(), _failed(data_day=10)], [settled, failed], now=NOW, wall=WALL + HOUR)
    assert retry.request
    assert retry.attempt == 2
    assert len(retry.causes) == 2, "a new cause rides along with a retry"


def test_a_failed_attempt_also_holds_back_causes_that_came_later():
    entries = [_entry(_decide([_failed()]), "failed")]
    assert not _decide([_failed(data_day=10)], entries, wall=WALL + 9 * MINUTE).request
    assert _decide([_failed(data_day=10)], entries, wall=WALL + 10 * MINUTE).attempt == 1


def test_an_attempt_that_was_lost_is_tried_again_at_once_under_a_new_key_and_is_no_failure():
    entries = [_entry(_decide([_failed()]), "lost")]
    retry = _decide([_failed()], entries)
    assert retry.request
    assert retry.attempt == 2
    assert retry.run_key != entries[0].run_key
    assert _decide([_failed()], entries, RetrainSpec(max_attempts=1)).request


def test_backoff_cannot_overflow_the_calendar():
    patient = RetrainSpec(max_attempts=10_000, backoff="52w")
    entry = replace(_entry(_decide([_failed()]), "failed"), attempt=5_000)
    assert not _decide([_failed()], [entry], policy=patient).request


@pytest.mark.parametrize("field", ["cooldown", "max_attempts", "backoff"])
def test_each_field_of_the_policy_changes_the_decision(field):
    first = _decide([_failed()])
    by_field = {
        "cooldown": ("1h", [_failed(data_day=10)], [_entry(first, "promoted")]),
        "max_attempts": (1, [_failed()], [_entry(first, "failed")]),
        "backoff": ("3h", [_failed()], [_entry(first, "failed")]),
    }
    value, failed, ledger = by_field[field]
    changed = RetrainSpec(**{**POLICY.model_dump(), field: value})
    before, after = (_decide(failed, ledger, policy, NOW + 2 * HOUR, WALL + 2 * HOUR) for policy in (POLICY, changed))
    assert before.request != after.request


@dataclass(frozen=True)
class Step:
    """What happens before and at one tick of the sensor."""

    minutes: int
    new_data: bool
    failing: frozenset[str] | None  # None: no check runs.
    outcome: str | None  # of the oldest run, if there is one
    late_failure: bool  # a step fails after the outcome was written down
    tick: str  # "calm"; "killed" between ledger and run; "unseen": the run starts and the next tick does not see it


# Data and checks move more rarely than the sensor ticks, or no cause would live long enough to fail three times.
FAILING = [
    None,
    None,
    None,
    frozenset(),
    frozenset({"feature_drift"}),
    frozenset({"feature_drift", "model_age"}),
    frozenset(get_args(Trigger)),
]
STEPS = st.lists(
    st.builds(
        Step,
        minutes=st.sampled_from([5, 60, 60, 1500]),
        new_data=st.sampled_from([False, False, False, False, True]),
        failing=st.sampled_from(FAILING),
        outcome=st.sampled_from([None, "failed", "failed", "failed", "lost", "kept_champion", "promoted"]),
        late_failure=st.booleans(),
        tick=st.sampled_from(["calm", "calm", "killed", "unseen"]),
    ),
    min_size=20,
    max_size=200,
)


class Factory:
    """Checks that flap, data that moves on, runs that fail or die, and a sensor killed between ledger and run."""

    def __init__(self):
        self.now, self.wall = NOW, WALL
        self.data, self.champion = 1, 1
        self.failing: list[FailedCheck] = []
        self.ledger: list[LedgerEntry] = []
        self.runs: dict[str, LedgerEntry] = {}
        self.seen = True
        self.started: set[str] = set()
        self.effective: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    def play(self, step):
        self.now, self.wall = self.now + step.minutes * MINUTE, self.wall + step.minutes * MINUTE
        self.data += step.new_data
        if step.outcome and self.runs:
            self.end_run(step.outcome, step.late_failure)
        if step.failing is not None:
            data = NOW + self.data * HOUR
            self.failing = [FailedCheck(kind, 1, "", self.champion, data, "") for kind in sorted(step.failing)]
        self.tick(step.tick)
        self.check_promises()

    def decide(self, later=timedelta(0)):
        active = next(iter(self.runs), None) if self.seen else None
        return _decide(self.failing, self.ledger, now=self.now + later, wall=self.wall + later, active=active)

    def record(self, entry, state):
        self.wall += timedelta(seconds=1)
        self.ledger.append(replace(entry, state=state, at_utc=self.now, recorded_at_utc=self.wall))

    def tick(self, how):
        decision = self.decide()
        self.seen = True
        assert decision.reason
        if not decision.request:
            return
        entry = _entry(decision, "requested")
        if not any(known.run_key == entry.run_key for known in self.ledger):
            self.record(entry, "requested")
        if how != "killed" and entry.run_key not in self.started:  # Dagster starts a run key once.
            self.started.add(entry.run_key)
            self.runs[entry.run_key] = entry
            self.seen = how != "unseen"

    def end_run(self, outcome, late_failure):
        entry = self.runs.pop(next(iter(self.runs)))
        self.record(entry, outcome)
        if outcome in ("failed", "lost"):
            self.failures.update(entry.causes if outcome == "failed" else ())
            return
        self.effective.update(entry.causes)
        self.champion += outcome == "promoted"
        if late_failure:
            self.record(entry, "failed")

    def check_promises(self):
        assert max(self.effective.values(), default=0) <= 1, "a cause had two effective retrains"
        assert max(self.failures.values(), default=0) <= POLICY.max_attempts
        open_causes = {cause_key(LINE, check) for check in self.failing} - set(self.effective)
        waiting = {cause for cause in open_causes if self.failures[cause] < POLICY.max_attempts}
        next_step = self.decide(later=timedelta(days=400))
        if open_causes and self.seen and self.runs:
            assert "Waiting for retrain" in next_step.reason
        elif waiting:
            assert next_step.request
            assert set(next_step.causes) & waiting
            assert not self.seen or next_step.run_key not in self.started, "Dagster would never start it again"
        elif open_causes:
            assert "need a person" in next_step.reason
        else:
            assert not next_step.request

    def drain(self):
        """With runs that succeed from here on, everything open is answered in a few ticks."""
        for _ in range(6):
            self.play(Step(3000, False, None, "kept_champion", False, "calm"))
        open_causes = {cause_key(LINE, check) for check in self.failing} - set(self.effective)
        assert all(self.failures[cause] >= POLICY.max_attempts for cause in open_causes)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_whatever_happens_each_cause_has_one_effective_retrain_and_a_next_step(steps):
    factory = Factory()
    for step in steps:
        factory.play(step)
    factory.drain()
