"""Frozen verdicts: what the pure functions of `core` return, and what storage and the UI show."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from factory_assets.contracts.drift_policy import DriftMeasure


@dataclass(frozen=True)
class FeatureReference:
    """One feature as it was in the champion's training rows, read once and never again.

    `edges` are cut points of a numeric feature, `categories` the values of a categorical one (unlisted values share a
    cell). `counts` has one entry for each edge (rows up to it, beyond the edge before) or category, then one for rows
    above all edges or in no category, and the last for missing values. `spread` is the standard deviation, `discrete`
    says that every value is an edge, and `design_effect` by how much a sample is worth less than independent rows.
    """

    feature: str
    edges: tuple[float, ...]
    categories: tuple[str, ...]
    counts: tuple[int, ...]
    spread: float = 0.0
    discrete: bool = False
    design_effect: float = 1.0

    @property
    def is_numeric(self) -> bool:
        """Whether the bins are cut points. A feature that was all missing has neither edges nor categories."""
        return not self.categories


@dataclass(frozen=True)
class ScoreProfile:
    """The champion's holdout by ranges of its scores: k cut points, k + 1 rows, mean labels and mean errors."""

    cuts: tuple[float, ...]
    rows: tuple[int, ...]
    mean_label: tuple[float, ...]
    mean_absolute_error: tuple[float, ...]
    mean_squared_error: tuple[float, ...]


@dataclass(frozen=True)
class FeatureDrift:
    """The comparison of one feature: effect size, adjusted p-value, and the shares behind the picture."""

    feature: str
    measure: DriftMeasure
    effect: float
    threshold: float
    p_value: float
    p_adjusted: float
    drifted: bool
    reference_share: tuple[float, ...]
    current_share: tuple[float, ...]
    bin_labels: tuple[str, ...]

    @property
    def severity(self) -> float:
        """The effect in thresholds, by which features of different measures are ordered."""
        return self.effect / self.threshold


@dataclass(frozen=True)
class SegmentDrift:
    """The verdict on one segment.

    `judged` is false when its window was too small to say anything. `exceeded` says that a large effect stands out of
    the noise in this window, `drifted` that it did in enough windows. `false_alarms_per_month` is how often unchanged
    data would give so small a p-value somewhere in the fleet.
    """

    segment: str
    judged: bool
    exceeded: bool
    drifted: bool
    reference_rows: int
    current_rows: int
    windows_exceeded: int
    p_value: float
    false_alarms_per_month: float
    worst_feature: str
    severity: float


@dataclass(frozen=True)
class DriftReport:
    """The verdict over the segments of a line; `features` are those of the worst segment, worst first."""

    drifted: bool
    segments: tuple[SegmentDrift, ...]
    features: tuple[FeatureDrift, ...]
    allowed_per_month: float
    reason: str

    @property
    def judged(self) -> bool:
        """Whether any segment had enough rows for a verdict."""
        return any(segment.judged for segment in self.segments)

    @property
    def failing_segments(self) -> tuple[str, ...]:
        """Keys of the drifted segments, worst first."""
        return tuple(segment.segment for segment in self.segments if segment.drifted)

    @property
    def drifted_features(self) -> tuple[str, ...]:
        """Names of the worst segment's drifted features, worst first."""
        return tuple(feature.feature for feature in self.features if feature.drifted)


@dataclass(frozen=True)
class SegmentDay:
    """What a day's verdict said of a segment: the largest effect of its features in thresholds, and whether it drifted."""

    segment: str
    day: date
    severity: float
    drifted: bool


@dataclass(frozen=True)
class TrainingCount:
    """How many segments a training tried, and how many of them failed."""

    day: date
    tried: int
    failed: int


@dataclass(frozen=True)
class JointReport:
    """How well a classifier tells a window from training, against how well it tells training's own windows from the rest.

    `auc` is the area under its curve on days that it was not taught, `own_aucs` those of training's own windows, and
    `importance` what of the area each feature carries, largest first; both are empty where `auc` is not above `size`, and
    nothing hangs on them. The shares are those of each side's rows by the classifier's score, from 0 to 1 in twenty bins.
    """

    judged: bool
    exceeded: bool
    auc: float
    size: float
    p_value: float
    own_aucs: tuple[float, ...]
    reference_rows: int
    current_rows: int
    importance: tuple[tuple[str, float], ...]
    reference_share: tuple[float, ...]
    current_share: tuple[float, ...]
    reason: str

    def because(self, reason: str) -> "JointReport":
        """The same with a reason."""
        return replace(self, reason=reason)


@dataclass(frozen=True)
class QualityReport:
    """The serving model's metric in a window against its own holdout; `realised` is None before labels are known.

    `loss` is the share of the champion's skill over the dummy that is gone, `unexplained` the part of it that scores of
    the same kind did not lose on the holdout. Errors are standard errors.
    """

    judged: bool
    decayed: bool
    metric: str
    rows: int
    reference: float
    realised: float | None
    realised_error: float | None
    expected: float | None
    expected_error: float | None
    loss: float
    unexplained: float
    reason: str

    def because(self, reason: str) -> "QualityReport":
        """The same with a reason."""
        return replace(self, reason=reason)


@dataclass(frozen=True)
class FleetQualityReport:
    """The verdict on every model that serves a line, worst first, whose reason it gives with counts of the others."""

    segments: tuple[tuple[str, QualityReport], ...]
    reason: str

    @property
    def worst(self) -> QualityReport:
        """The report on the worst model."""
        return self.segments[0][1]

    @property
    def failing_segments(self) -> tuple[str, ...]:
        """Keys of the segments whose models decayed, worst first."""
        return tuple(segment for segment, report in self.segments if report.decayed)


@dataclass(frozen=True)
class SkewReport:
    """Sampled rows of some days, and of how many training and scoring see other features: by feature, and by day."""

    rows: int = 0
    first: date | None = None
    last: date | None = None
    differing: Mapping[str, int] = field(default_factory=dict)
    differing_days: Mapping[str, int] = field(default_factory=dict)

    @property
    def differing_rows(self) -> int:
        """Rows of which any feature differs."""
        return sum(self.differing_days.values())


@dataclass(frozen=True)
class FreshnessReport:
    """How old something is against its limit. `lag_seconds` is None when there is nothing at all."""

    fresh: bool
    newest_utc: datetime | None
    lag_seconds: float | None
    limit_seconds: float
    reason: str


@dataclass(frozen=True)
class DeliveryReport:
    """Whether the predictions of a day that is due are there."""

    delivered: bool
    day: date
    due_utc: datetime
    feature_rows: int
    scored_rows: int
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
