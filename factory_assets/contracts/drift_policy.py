"""When features, predictions or labels count as drifted: the part of a declaration that the drift checks act on."""

from typing import Literal, Self

from pydantic import Field, model_validator

from factory_assets.contracts.names import ColumnName, Duration
from factory_assets.contracts.strict import Strict, span

NumericMeasure = Literal["psi", "jensen_shannon", "wasserstein", "ks"]
CategoricalMeasure = Literal["psi", "jensen_shannon", "cramers_v"]
DriftMeasure = Literal["psi", "jensen_shannon", "wasserstein", "ks", "cramers_v"]
DriftNull = Literal["auto", "analytic", "permutation"]
# What a shift of a normal by 0.45 standard deviations is in each measure; PSI's is the usual limit of a large change.
DRIFT_THRESHOLDS: dict[DriftMeasure, float] = {
    "psi": 0.2,
    "jensen_shannon": 0.15,
    "wasserstein": 0.45,
    "ks": 0.175,
    "cramers_v": 0.15,
}


class NumericDriftSpec(Strict):
    """How numbers are compared."""

    measure: NumericMeasure | None = Field(default=None, description="The effect size; absent: `drift.measure`.")
    threshold: float | None = Field(default=None, gt=0, description="Absent: `drift.threshold`, or the measure's own.")


class CategoricalDriftSpec(Strict):
    """How text is compared."""

    measure: CategoricalMeasure | None = Field(default=None, description="The effect size; absent: `drift.measure`.")
    threshold: float | None = Field(default=None, gt=0, description="Absent: `drift.threshold`, or the measure's own.")


class FeatureDriftSpec(Strict):
    """How one feature is compared, whatever its kind says."""

    measure: DriftMeasure | None = Field(default=None, description="Absent: as for its kind.")
    threshold: float | None = Field(default=None, gt=0, description="Absent: as for its kind, or the measure's own.")


class HysteresisSpec(Strict):
    """How many of the newest windows must exceed before a segment counts as drifted."""

    hits: int = Field(default=1, ge=1, description="So many windows, the newest among them,")
    of: int = Field(default=1, ge=1, description="of the last so many days that were judged.")

    @model_validator(mode="after")
    def _hits_fit(self) -> Self:
        if self.hits > self.of:
            raise ValueError(f"hits {self.hits} of {self.of} windows can never be: make `of` at least {self.hits}")
        return self


class JointDriftSpec(Strict):
    """Whether what hangs together with what has changed, for the model of all rows, by a classifier of both sides."""

    size: float = Field(
        default=0.625,
        gt=0.5,
        lt=1,
        description="Of the area under the classifier's curve; a shift of one normal by 0.45 deviations gives 0.625.",
    )
    rows: int = Field(default=10_000, ge=500, description="Most training rows that are kept to compare with.")
    marginals: Literal["kept", "removed"] = Field(
        default="kept",
        description="Compare the rows as they are, or each number by its rank within its side: what is left is what hangs "
        "together, and what single features do counts no more.",
    )


class DriftSpec(Strict):
    """When features, predictions or labels count as drifted: by a large effect that sampling noise does not explain."""

    measure: Literal["psi", "jensen_shannon"] = Field(default="psi", description="The effect size of every kind.")
    threshold: float | None = Field(
        default=None,
        gt=0,
        description="Of the effect; absent: " + ", ".join(f"{m} {t:g}" for m, t in DRIFT_THRESHOLDS.items()),
    )
    numeric: NumericDriftSpec = NumericDriftSpec()
    categorical: CategoricalDriftSpec = CategoricalDriftSpec()
    features: dict[ColumnName, FeatureDriftSpec] = Field(
        default_factory=dict, description="Of single features; `prediction` and `label` are those of the model."
    )
    joint: JointDriftSpec | None = Field(
        default=None, description="Adds the check `joint_drift`; from the next training on it has rows to compare with."
    )
    ignore: tuple[ColumnName, ...] = Field(default=(), description="Features that move with the season by design.")
    window: Duration = span("7d", "The newest whole days, compared with the champion's training rows (scores: its holdout).")
    min_rows: int = Field(default=200, ge=20, description="A segment with a smaller window gets no verdict.")
    exchangeable: Literal["days", "rows"] = Field(
        default="days", description="What is independent: rows count for less where days resemble their neighbours."
    )
    null: DriftNull = Field(
        default="auto", description="The noise: by formula, by shuffling, or by shuffling below 200 rows."
    )
    false_discovery_rate: float = Field(
        default=0.05, gt=0, lt=1, description="Benjamini-Hochberg level over the features of a segment."
    )
    false_alarms_per_month: float = Field(
        default=1.0, gt=0, description="At most so many false alarms in 30 days, of all segments and checks together."
    )
    hysteresis: HysteresisSpec = HysteresisSpec()

    @model_validator(mode="after")
    def _features_are_judged(self) -> Self:
        both = sorted(set(self.features) & set(self.ignore))
        if both:
            raise ValueError(f"features and ignore both name {', '.join(both)}: a feature is judged or ignored")
        return self

    def judged_by(self, feature: str, is_numeric: bool) -> tuple[DriftMeasure, float]:
        """The measure of a feature and its threshold: its own, else its kind's, else those of all."""
        own, kind = self.features.get(feature, FeatureDriftSpec()), self.numeric if is_numeric else self.categorical
        measure: DriftMeasure = self.measure
        threshold = self.threshold
        for level in (kind, own):
            if level.measure is not None:
                measure, threshold = level.measure, None
            threshold = level.threshold if level.threshold is not None else threshold
        return measure, DRIFT_THRESHOLDS[measure] if threshold is None else threshold
