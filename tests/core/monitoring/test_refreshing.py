from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory_assets.contracts.source import RefreshSpec
from factory_assets.core.monitoring.refreshing import Attempt, decide_next_attempt, decide_refresh, refresh_cause

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
POLICY = RefreshSpec(max_attempts=3, backoff="15m")


def failed(minutes_ago: float) -> Attempt:
    return Attempt("failed", NOW - timedelta(minutes=minutes_ago))


@pytest.mark.parametrize(
    ("attempts", "is_held", "attempt", "said"),
    [
        ([], False, 1, "is read again"),
        ([Attempt("active")], False, None, "is being read"),
        ([Attempt("succeeded", NOW)], False, None, "waits for a new file"),
        ([failed(14)], False, None, "after a failure"),
        ([failed(15)], False, 2, "is read again"),
        ([failed(60), failed(29)], False, None, "after a failure"),
        ([failed(60), failed(30)], False, 3, "is read again"),
        ([failed(600)] * 3, False, None, "3 runs failed"),
        ([], True, None, "held"),
    ],
)
def test_a_stale_source_is_read_once_and_after_failures_later_and_later(attempts, is_held, attempt, said) -> None:
    decision = decide_refresh("flights", POLICY, attempts, is_held, NOW)
    assert decision.attempt == attempt
    assert said in decision.reason


def test_each_key_of_the_policy_changes_the_decision() -> None:
    assert decide_refresh("flights", RefreshSpec(max_attempts=0), [], False, NOW).attempt is None
    assert decide_refresh("flights", RefreshSpec(backoff="1h"), [failed(15)], False, NOW).attempt is None


def test_a_newer_event_and_a_new_file_are_causes_of_their_own() -> None:
    causes = {refresh_cause("a", NOW, "x"), refresh_cause("a", NOW + timedelta(hours=1), "x"), refresh_cause("a", NOW, "y")}
    assert len(causes | {refresh_cause("b", NOW, "x")}) == 4


@pytest.mark.parametrize(
    ("attempts", "attempt", "said"),
    [
        ([], 1, "started"),
        ([failed(60), Attempt("active")], None, "under way"),
        ([failed(14)], None, "at 2026-03-02T12:01+00:00"),
        ([failed(60), failed(29)], None, "the next is tried"),
        ([failed(60), failed(30)], 3, "started"),
        ([Attempt("failed")], 2, "started"),
        ([failed(9999)] * 8, None, "8 runs failed"),
    ],
    ids=["first", "active", "waits", "waits longer", "waited", "lost", "given up"],
)
def test_a_mended_day_is_tried_later_and_later_and_eight_times_in_all(attempts, attempt, said) -> None:
    decision = decide_next_attempt(attempts, NOW)
    assert (decision.attempt, said in decision.reason) == (attempt, True)


@given(ticks=st.lists(st.integers(0, 120), max_size=40), fails=st.lists(st.booleans(), min_size=40, max_size=40))
def test_however_often_the_sensor_ticks_one_cause_has_at_most_its_attempts(ticks: list[int], fails: list[bool]) -> None:
    now, attempts = NOW, []
    for minutes, fail in zip(ticks, fails, strict=False):
        now += timedelta(minutes=minutes)
        if decide_refresh("flights", POLICY, attempts, False, now).attempt is not None:
            attempts.append(Attempt("failed" if fail else "succeeded", now))
    assert len(attempts) <= POLICY.max_attempts
    assert [attempt.state for attempt in attempts].count("succeeded") <= 1
