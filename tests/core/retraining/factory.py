"""A factory in memory: checks that fail, runs that end in every way, a ledger book, and a sensor that may be killed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from factory_assets.contracts.retrain_policy import RetrainSpec
from factory_assets.contracts.retraining import (
    Capacity,
    FailedCheck,
    LedgerEntry,
    Outcome,
    Price,
    RetrainDecision,
    RetrainRequest,
    RunFact,
)
from factory_assets.core.retraining import LedgerBook, Situation, decide_retraining
from factory_assets.core.retraining.claims import Claimant, decide_answer, decide_claim

LINE = "arrival_delay"
NOW = datetime(2013, 7, 10, 6, tzinfo=UTC)
WALL = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def drift_policy(**keys) -> RetrainSpec:
    """A policy that acts on drift and age, with some keys declared otherwise."""
    return RetrainSpec(**{"triggers": ("feature_drift", "prediction_drift", "model_age"), **keys})


POLICY = drift_policy(cooldown="24h", max_attempts=3, backoff="10m", timeout="4h")
PLENTY = Capacity(runs_at_once=1000)


def failed(check="feature_drift", version=3, data_day=9, segments=("all",), wall=WALL):
    data = datetime(2013, 7, data_day, tzinfo=UTC)
    return FailedCheck(check, data_day, f"run-{data_day}", version, data, f"{check} of day {data_day}", segments, wall)


@dataclass
class Factory:
    """One line. Runs are started by `tick` and ended by `end`; both clocks move with `wait`."""

    policy: RetrainSpec = POLICY
    line: str = LINE
    book: LedgerBook = field(default_factory=LedgerBook)
    now: datetime = NOW
    wall: datetime = WALL
    serving: dict[str, int] = field(default_factory=lambda: {"all": 3})
    failing: list[FailedCheck] = field(default_factory=list)
    runs: dict[str, RunFact] = field(default_factory=dict)
    requests: dict[str, RetrainRequest] = field(default_factory=dict)
    capacity: Capacity = PLENTY
    price: Price = field(default_factory=Price)

    def decide(self, **changes) -> RetrainDecision:
        return decide_retraining(self.policy, self.situation(**changes))

    def situation(self, **changes) -> Situation:
        situation = Situation(
            self.line,
            self.failing,
            self.serving,
            self.book.history(),
            self.runs,
            self.now,
            self.wall,
            capacity=self.capacity,
            price=self.price,
        )
        return replace(situation, **changes)

    def tick(self, *, killed: bool = False, **changes) -> RetrainDecision:
        """One tick of the sensor; killed between ledger and run, nothing is started."""
        decision = self.decide(**changes)
        assert self.book.write(decision.entries, self.book.sequence)
        for request in [] if killed else decision.requests:
            self.start(request)
        return decision

    def start(self, request: RetrainRequest) -> None:
        """As Dagster does: a run key that was started is not started again."""
        if request.run_key not in self.runs:
            self.requests[request.run_key] = request
            self.runs[request.run_key] = RunFact("active", f"run of {request.run_key}", "started")

    def claim(self, run_key: str) -> None:
        claimant = Claimant(self.line, self.runs[run_key].run_id, run_key)
        steps = decide_claim(claimant, self.book.history(), self.serving, self.now, self.wall, self.policy.timeout)
        assert self.book.write(steps, self.book.sequence)

    def end(self, run_key: str, state: str, outcomes: Mapping[str, Outcome] | None = None) -> None:
        """`failed` and `lost` end without an answer; otherwise the run claims, promotes if so, and answers."""
        if state in ("failed", "lost"):
            self.runs[run_key] = replace(self.runs[run_key], state=state, reason=f"it {state}")
            return
        self.claim(run_key)
        segments = {e.cause.segment for e in self.book.history().of_line(self.line) if e.run_key == run_key}
        if state == "promoted":
            for segment in segments:
                self.serving[segment] = self.serving.get(segment, 0) + 1
        outcomes = outcomes or {segment: Outcome(state, f"the gate: {state}", 1) for segment in segments}
        claimant = Claimant(self.line, self.runs[run_key].run_id, run_key)
        policy = self.policy
        steps = decide_answer(
            claimant, self.book.history(), outcomes, self.now, self.wall, policy.backoff, policy.max_attempts
        )
        assert self.book.write(steps, self.book.sequence)
        del self.runs[run_key]

    def wait(self, span: timedelta) -> "Factory":
        self.now, self.wall = self.now + span, self.wall + span
        return self

    def states(self) -> list[str]:
        return [entry.state for entry in self.book.entries]

    def newest(self) -> list[LedgerEntry]:
        return list(self.book.history().unsettled.values())

    def fail(self, checks: Iterable[FailedCheck]) -> "Factory":
        self.failing = [replace(check, evaluated_at_utc=self.wall) for check in checks]
        return self
