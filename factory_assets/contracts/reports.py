"""Frozen verdicts: what the pure functions of `core` return, and what storage and the UI show."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from factory_assets.contracts.model_line import CheckKind

# `lost`: the process died under the run, which says nothing of the run; `failed`: the run itself went wrong.
RetrainState = Literal["requested", "promoted", "kept_champion", "failed", "lost"]


@dataclass(frozen=True)
class FeatureReference:
    """One feature as it was in the champion's training rows, binned once and never read again.

    `edges` are the inner cut points of a numeric feature (k edges make k + 1 bins, each open on the left and closed on
    the right); `categories` are the values of a categorical one (unlisted values share a last bin). `counts` has one
    entry a bin and one more, the last, for missing values.
    """

    feature: str
    edges: tuple[float, ...]
    categories: tuple[str, ...]
    counts: tuple[int, ...]

    @property
    def is_numeric(self) -> bool:
        """Whether the bins are cut points. A feature that was all missing has neither edges nor categories."""
        return not self.categories


@dataclass(frozen=True)
class FeatureDrift:
    """The comparison of one feature: effect size, adjusted p-value, and the shares behind the picture."""

    feature: str
    psi: float
    p_value: float
    p_adjusted: float
    drifted: bool
    reference_share: tuple[float, ...]
    current_share: tuple[float, ...]
    bin_labels: tuple[str, ...]


@dataclass(frozen=True)
class DriftReport:
    """The verdict over a set of features. `judged` is false when the window was too small to say anything."""

    judged: bool
    drifted: bool
    reference_rows: int
    current_rows: int
    threshold: float
    features: tuple[FeatureDrift, ...]
    reason: str

    @property
    def drifted_features(self) -> tuple[str, ...]:
        """Names of the drifted features, worst first."""
        worst_first = sorted((f for f in self.features if f.drifted), key=lambda f: -f.psi)
        return tuple(f.feature for f in worst_first)


@dataclass(frozen=True)
class FreshnessReport:
    """How old something is against its limit. `lag_seconds` is None when there is nothing at all."""

    fresh: bool
    newest_utc: datetime | None
    lag_seconds: float | None
    limit_seconds: float
    reason: str


@dataclass(frozen=True)
class Evaluation:
    """A model's metrics on one holdout, beside the dummy and the simple baseline on the same rows."""

    metric: str
    rows: int
    scores: dict[str, float]
    dummy: dict[str, float]
    baseline: dict[str, float]


@dataclass(frozen=True)
class PromotionDecision:
    """Whether the challenger becomes champion, and the sentence that is kept either way."""

    promote: bool
    reason: str
    challenger_value: float
    champion_value: float | None


@dataclass(frozen=True)
class FailedCheck:
    """One failed asset-check evaluation, as the sensor read it from Dagster's record.

    `champion_version` and `data_as_of_utc` make the cause: the same model found wanting on the same data is the same
    cause, however often the check runs.
    """

    check: CheckKind
    evaluation_id: int
    run_id: str
    champion_version: int
    data_as_of_utc: datetime
    summary: str


@dataclass(frozen=True)
class LedgerEntry:
    """One row of the retrain ledger. `at_utc` is factory time, `recorded_at_utc` wall time."""

    line: str
    run_key: str
    attempt: int
    causes: tuple[str, ...]
    state: RetrainState
    at_utc: datetime
    recorded_at_utc: datetime
    reason: str
    run_id: str = ""


@dataclass(frozen=True)
class RetrainDecision:
    """What the sensor shall do. `run_key` names line, causes and attempt, so one attempt is one run for ever."""

    request: bool
    reason: str
    run_key: str = ""
    attempt: int = 0
    causes: tuple[str, ...] = ()
    checks: tuple[FailedCheck, ...] = field(default=())
