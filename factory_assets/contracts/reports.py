"""Frozen verdicts: what the pure functions of `core` return, and what storage and the UI show."""

from dataclasses import dataclass
from datetime import datetime


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
