"""What the retrain ledger holds, and what a decision on retraining says."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

from factory_assets.contracts.segments import ALL

BY_HAND = "by_hand"

# `lost`: the process died under the run, which says nothing of the run. `failed`: the run itself went wrong. `expired`: it
# took longer than the policy allows and was stopped. `raised`: a person has to look. `superseded`: nothing left to answer.
CauseState = Literal[
    "open", "requested", "running", "promoted", "kept_champion", "failed", "lost", "expired", "raised", "superseded"
]
# Who or what moves a cause on. With `cooldown` the instant beside it is one of the factory clock, else of the wall clock.
NextStep = Literal["none", "cooldown", "backoff", "place", "budget", "start", "end", "person"]
Action = Literal["retrain", "alert_only"]
Strategy = Literal["changed_segments", "full", "sliding_window"]

RESOLVED: frozenset[CauseState] = frozenset({"promoted", "kept_champion"})
IN_FLIGHT: frozenset[CauseState] = frozenset({"requested", "running"})
IN_VAIN: frozenset[CauseState] = frozenset({"failed", "lost", "expired"})
UNSETTLED: frozenset[CauseState] = frozenset({"open", "raised", *IN_FLIGHT, *IN_VAIN})


@dataclass(frozen=True)
class FailedCheck:
    """One failed asset-check evaluation, as the sensor read it from Dagster's record, or another trigger that is due.

    Judged again with the same outcome it is still the same trouble, however often the check runs. `effects` are the effect
    sizes of segments, where the check has them; `evaluated_at_utc` is wall time.
    """

    check: str
    evaluation_id: int
    run_id: str
    champion_version: int
    data_as_of_utc: datetime
    summary: str
    segments: tuple[str, ...] = (ALL,)
    evaluated_at_utc: datetime | None = None
    effects: Mapping[str, float] = field(default_factory=dict)

    @property
    def evidence(self) -> str:
        """Where the verdict stands in Dagster's record."""
        return f"{self.evaluation_id}@{self.run_id}" if self.evaluation_id else ""


@dataclass(frozen=True)
class Cause:
    """Why a model is to be trained again: what was found wanting of which model, on which state of the data."""

    line: str
    segment: str
    trigger: str
    champion_version: int
    data_as_of_utc: datetime

    @property
    def key(self) -> str:
        """One text for each cause.

        >>> Cause("delay", "all", "feature_drift", 3, datetime(2013, 7, 1, 4, tzinfo=UTC)).key
        'delay/all/feature_drift/v3/2013-07-01T04:00:00Z'

        Raises:
            ValueError: for data times without a time zone.
        """
        if self.data_as_of_utc.tzinfo is None:
            raise ValueError(f"data_as_of_utc of {self.trigger} must be timezone-aware")
        moment = self.data_as_of_utc.astimezone(UTC).replace(tzinfo=None).isoformat()
        return f"{self.line}/{self.segment}/{self.trigger}/v{self.champion_version}/{moment}Z"

    @property
    def subject(self) -> tuple[str, str, str, int]:
        """What it is about, whatever the data: newer evidence on the same subject is no new cause while one is open."""
        return self.line, self.segment, self.trigger, self.champion_version


@dataclass(frozen=True)
class LedgerEntry:
    """One step of a cause. The newest step of a cause is all that is known of it: counts and evidence are carried on.

    `reason` is why this step was taken, `summary` what was found at the beginning.
    `at_utc` is factory time, `recorded_at_utc` and `evaluated_at_utc` (when the verdict was given) wall time. `attempts`
    counts requests, `failures` those that went wrong by themselves or expired.
    """

    cause: Cause
    state: CauseState
    at_utc: datetime
    recorded_at_utc: datetime
    reason: str
    attempts: int = 0
    failures: int = 0
    run_key: str = ""
    run_id: str = ""
    strategy: Strategy = "changed_segments"
    next_step: NextStep = "none"
    next_step_at_utc: datetime | None = None
    reserved_cpu_seconds: float = 0.0
    expected_loss: float = 0.0
    summary: str = ""
    evidence: str = ""
    evaluated_at_utc: datetime | None = None
    outcome_version: int | None = None

    def step(self, state: CauseState, reason: str, now: datetime, wall_now: datetime, **changes: object) -> "LedgerEntry":
        """The next entry of this cause; what leads on is named anew each time."""
        values: dict[str, object] = {"next_step": "none", "next_step_at_utc": None, **changes}
        return replace(self, state=state, reason=reason, at_utc=now, recorded_at_utc=wall_now, **values)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Resolution:
    """When a segment was last answered, by the factory clock and by the wall clock."""

    at_utc: datetime
    recorded_at_utc: datetime


@dataclass(frozen=True)
class RetrainHistory:
    """The ledger as a decision sees it: every cause that is not settled, of all lines, and what settled ones leave behind.

    `sequence` is the ledger's newest commit; a decision is written only when it still is. `settled` are keys of resolved
    causes. `resolved` is the newest resolution of each line and segment.
    """

    sequence: int = 0
    unsettled: Mapping[str, LedgerEntry] = field(default_factory=dict)
    settled: frozenset[str] = frozenset()
    resolved: Mapping[tuple[str, str], Resolution] = field(default_factory=dict)

    def of_line(self, line: str) -> list[LedgerEntry]:
        """The unsettled causes of one line."""
        return [entry for entry in self.unsettled.values() if entry.cause.line == line]


@dataclass(frozen=True)
class RunFact:
    """What became of the run of a request: `waiting` was created but never launched; `ended` tells nothing but `reason`."""

    state: Literal["waiting", "active", "failed", "lost"]
    run_id: str
    reason: str


@dataclass(frozen=True)
class RetrainRequest:
    """One run to ask for. `segments` is empty when the whole line is to be trained."""

    run_key: str
    segments: tuple[str, ...]
    strategy: Strategy
    attempt: int
    triggers: tuple[str, ...]
    evidence: Mapping[str, str]
    reason: str


@dataclass(frozen=True)
class RetrainDecision:
    """What the ledger is to take down, which runs to ask for, which to stop, and the sentence for the tick.

    While a run is `judging`, new causes wait for all its verdicts: that nothing is asked for says nothing then.
    """

    entries: tuple[LedgerEntry, ...]
    requests: tuple[RetrainRequest, ...]
    reason: str
    stop_run_ids: tuple[str, ...] = ()
    judging: str | None = None


@dataclass(frozen=True)
class Capacity:
    """What may be started, for the whole factory. CPU seconds that are None are not limited."""

    runs_at_once: int = 2
    segments_a_run: int = 500
    cpu_seconds_a_day: float | None = None
    cpu_seconds_left_today: float | None = None
    tomorrow_utc: datetime | None = None


@dataclass(frozen=True)
class Price:
    """What a retrain of a line is expected to take: something for the run, and more for each segment."""

    cpu_seconds_a_run: float = 30.0
    cpu_seconds_a_segment: float = 60.0

    def expect(self, segments: int) -> float:
        """CPU seconds of one run over so many segments."""
        return self.cpu_seconds_a_run + segments * self.cpu_seconds_a_segment

    def affordable(self, cpu_seconds: float) -> int:
        """How many segments one run of so many CPU seconds can hold."""
        return max(0, int((cpu_seconds - self.cpu_seconds_a_run) // max(self.cpu_seconds_a_segment, 1e-9)))


@dataclass(frozen=True)
class Outcome:
    """How a run answered for one segment."""

    state: Literal["promoted", "kept_champion", "failed"]
    reason: str
    version: int | None = None
