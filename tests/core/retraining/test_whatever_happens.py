"""Checks that flap, data that moves on, runs that fail, die or hang, a sensor that is killed: each cause has one answer."""

from collections import Counter
from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from factory_assets.contracts.retraining import IN_FLIGHT, RESOLVED
from factory_assets.core.retraining.claims import RequestClosedError
from tests.core.retraining.factory import HOUR, MINUTE, Factory, drift_policy, failed

POLICY = drift_policy(cooldown="24h", max_attempts=3, backoff="10m", timeout="4h")
SEGMENTS = ("a", "b", "c")


class AnyHistory(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.factory = Factory(POLICY, serving=dict.fromkeys(SEGMENTS, 1))
        self.data_day = 1
        self.started: Counter[str] = Counter()
        self.deaf = False

    @rule(
        drifting=st.sets(st.sampled_from(SEGMENTS)),
        old=st.sets(st.sampled_from(SEGMENTS)),
    )
    def checks_run(self, drifting: set[str], old: set[str]) -> None:
        found = [("feature_drift", drifting), ("model_age", old)]
        checks = [failed(kind, 1, self.data_day, tuple(sorted(where))) for kind, where in found if where]
        self.factory.fail(checks)

    @rule()
    def data_arrives(self) -> None:
        self.data_day = min(self.data_day + 1, 28)

    @rule(span=st.sampled_from([5 * MINUTE, HOUR, 5 * HOUR, 30 * HOUR]))
    def time_passes(self, span) -> None:
        self.factory.wait(span)

    @rule(killed=st.booleans())
    def sensor_ticks(self, killed: bool) -> None:
        decision = self.factory.tick(killed=killed)
        for request in () if killed else decision.requests:
            self.started[request.run_key] += request.run_key not in self.started

    @rule()
    def sensor_is_killed_before_the_ledger(self) -> None:
        self.factory.decide()

    @rule()
    def another_daemon_decided_on_the_same_state_and_comes_late(self) -> None:
        decision, sequence = self.factory.decide(), self.factory.book.sequence
        self.factory.tick()
        moved = self.factory.book.sequence > sequence
        assert self.factory.book.write(decision.entries, sequence) is (not moved)

    @precondition(lambda self: self.active())
    @rule(data=st.data(), how=st.sampled_from(["failed", "lost", "promoted", "kept_champion"]))
    def a_run_ends(self, data, how: str) -> None:
        run_key = data.draw(st.sampled_from(self.active()))
        try:
            self.factory.end(run_key, how)
        except RequestClosedError:
            # It was written off before: what a zombie does has no effect on the ledger.
            self.factory.end(run_key, "failed")

    @precondition(lambda self: self.active())
    @rule(data=st.data())
    def a_run_starts_its_work(self, data) -> None:
        run_key = data.draw(st.sampled_from(self.active()))
        try:
            self.factory.claim(run_key)
        except RequestClosedError:
            self.factory.end(run_key, "failed")

    def active(self) -> list[str]:
        return sorted(key for key, fact in self.factory.runs.items() if fact.state == "active")

    @invariant()
    def no_cause_has_two_effective_retrains(self) -> None:
        answers = Counter(entry.cause.key for entry in self.factory.book.entries if entry.state in RESOLVED)
        assert max(answers.values(), default=0) <= 1

    @invariant()
    def every_unsettled_cause_has_a_next_step(self) -> None:
        for entry in self.factory.newest():
            if entry.state == "open":
                # With room for all runs, only these keep a cause open after the tick that opened it.
                assert entry.next_step in ("cooldown", "backoff", "end")
            assert entry.next_step == "person" or entry.next_step_at_utc is not None

    @invariant()
    def a_segment_is_in_one_run_at_a_time(self) -> None:
        flying = [(e.cause.segment, e.run_key) for e in self.factory.newest() if e.state in IN_FLIGHT]
        assert len({segment for segment, _ in flying}) == len(set(flying))

    @invariant()
    def failures_are_bounded(self) -> None:
        assert max((entry.failures for entry in self.factory.book.entries), default=0) <= POLICY.max_attempts

    def teardown(self) -> None:
        """With runs that succeed from here on, everything comes to its answer or to a person."""
        for _ in range(8):
            self.factory.wait(30 * HOUR)
            for run_key in self.active():
                self.a_run_ends_well(run_key)
            self.factory.tick()
        for run_key in self.active():
            self.a_run_ends_well(run_key)
        self.factory.tick()
        assert {entry.state for entry in self.factory.newest()} <= {"raised", *IN_FLIGHT, "open"}
        assert all(entry.next_step in ("person", "cooldown", "start", "end") for entry in self.factory.newest())

    def a_run_ends_well(self, run_key: str) -> None:
        try:
            self.factory.end(run_key, "kept_champion")
        except RequestClosedError:
            self.factory.runs[run_key] = replace(self.factory.runs[run_key], state="failed")


TestWhateverHappens = AnyHistory.TestCase
TestWhateverHappens.settings = settings(max_examples=150, stateful_step_count=60)
