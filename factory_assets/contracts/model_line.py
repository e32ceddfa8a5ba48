"""What a user declares of a model line: one registered model with its feature set, label, gate, checks and policy."""

from datetime import timedelta
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from factory_assets.contracts import estimators
from factory_assets.contracts.calendar import check_time_of_day
from factory_assets.contracts.drift_policy import DriftSpec
from factory_assets.contracts.names import ColumnName, Duration, Name
from factory_assets.contracts.retrain_policy import RetrainSpec
from factory_assets.contracts.strict import Strict as _Strict
from factory_assets.contracts.strict import span as _span
from factory_assets.contracts.tuning import ParamValue, SampleWeightSpec, SearchSpec

Task = estimators.Task
CheckKind = Literal[
    "feature_freshness",
    "model_age",
    "predictions_delivered",
    "feature_drift",
    "joint_drift",
    "prediction_drift",
    "label_drift",
    "quality",
    "estimated_quality",
    "skew",
]

# Where the models of a fleet are fitted; the results are the same.
Executor = Literal["serial", "processes", "ray"]

# Metric -> (task it belongs to, whether a higher value is better).
METRICS: dict[str, tuple[Task, bool]] = {
    "roc_auc": ("classification", True),
    "average_precision": ("classification", True),
    "log_loss": ("classification", False),
    "brier": ("classification", False),
    "r2": ("regression", True),
    "mae": ("regression", False),
    "rmse": ("regression", False),
}


class LabelSpec(_Strict):
    """Where the truth comes from: a dbt mart with the line's entity columns, the label and when it became known."""

    model: Name = Field(description="A dbt model in models/marts, with the entity columns.")
    column: ColumnName = Field(description="The label: 0 or 1 (or a boolean) in a classification, a number in a regression.")
    known_at: ColumnName = Field(description="Timestamp column: when the label became known; no training sees it before.")


class ValidationSpec(_Strict):
    """The time-ordered holdout: the newest labelled rows, never seen by the fit."""

    holdout: Duration = _span("14d", "The newest span of as-of time, kept out of the fit and used by the gate.")
    window: Duration | None = Field(default=None, description="Train only on this span before the holdout; absent: all.")
    metric: str | None = Field(default=None, description="Absent: roc_auc or rmse, by the estimator's task.")
    min_rows: int = Field(default=200, ge=20, description="Fewer labelled rows on either side of the cut fail the run.")
    seed: int = Field(default=0, description="Of everything random in a training.")

    @field_validator("metric")
    @classmethod
    def _metric_is_known(cls, metric: str | None) -> str | None:
        if metric is not None and metric not in METRICS:
            raise ValueError(f"{metric!r} is not a metric: choose one of {', '.join(METRICS)}")
        return metric


class PromotionSpec(_Strict):
    """When a challenger becomes champion. It must always beat the dummy model; NaN never wins."""

    better_than_champion: bool = Field(default=True, description="Strictly better on the same holdout; false: bounds only.")
    at_least: float | None = Field(default=None, description="Floor, for metrics where higher is better.")
    at_most: float | None = Field(default=None, description="Ceiling, for metrics where lower is better.")


class FreshnessSpec(_Strict):
    """How old features and model may be, by event time, and when predictions are due. Of raw data: a source's `max_lag`."""

    features_max_lag: Duration = _span("36h", "Longest allowed lag from the newest feature row to now.")
    model_max_age: Duration = _span("30d", "Oldest allowed champion, from the end of its holdout.")
    model_max_unseen_rows: int | None = Field(
        default=None, ge=1, description="Most rows whose label became known after the champion's holdout; absent: any."
    )
    predictions_by: str | None = Field(
        default=None, description="A day is scored by then on the next: HH:MM in the calendar's zone; absent: not checked."
    )

    @field_validator("predictions_by")
    @classmethod
    def _deadline_is_a_time(cls, deadline: str | None) -> str | None:
        return deadline if deadline is None else check_time_of_day(deadline)


class QualitySpec(_Strict):
    """When the serving model counts as decayed, by its labels or, before they are known, by its scores."""

    window: Duration = _span("14d", "The newest whole days whose rows are judged.")
    max_loss: float = Field(
        default=0.02, gt=0, description="Share of the champion's skill over the dummy, on its holdout, that may be lost."
    )
    max_expected_loss: float = Field(
        default=0.2, gt=0, description="The same of what the scores alone promise: what the features explain, a season too."
    )
    min_rows: int = Field(default=200, ge=50, description="Fewer rows in the window give no verdict.")

    def limit_of(self, check: CheckKind) -> float:
        """The share of the skill that `quality` or `estimated_quality` lets go."""
        return self.max_loss if check == "quality" else self.max_expected_loss


class SkewSpec(_Strict):
    """Whether training sees the features that scoring saw."""

    window: Duration = _span("14d", "The newest whole days with known labels whose sampled rows are judged.")
    sample: int = Field(default=200, ge=1, description="Rows of each scored day whose features are kept as a hash.")
    max_share: float = Field(default=0.0, ge=0, lt=1, description="Share of the sample that may differ.")


class SegmentsSpec(_Strict):
    """Which segments of a fleet get a model of their own, and when it serves instead of their parent's."""

    min_rows: int = Field(default=50, ge=2, description="Segments with fewer training rows are served by their parent.")
    confidence: float = Field(
        default=0.9, ge=0.5, lt=1, description="Of the paired test that a model has to pass to serve instead of its parent."
    )


class MlflowSpec(_Strict):
    """What MLflow shows of a fleet beside its one model that scores everything."""

    per_segment: Literal["changed", "none"] = Field(
        default="changed", description="A run for each segment that was trained and a version for each that was promoted."
    )


class ModelLineSpec(_Strict):
    """One registered model and everything the factory does for it."""

    name: Name = Field(description="Names assets, job, sensor, tables, and MLflow's experiment and model.")
    description: str = Field(default="", description="Shown in Dagster and MLflow.")
    feature_set: Name = Field(description="A dbt model in models/features.")
    entity: tuple[ColumnName, ...] = Field(min_length=1, description="Columns that name what is predicted.")
    as_of: ColumnName = Field(description="Timestamp column: the moment the prediction is made.")
    features: tuple[ColumnName, ...] = Field(default=(), description="Absent: every other column of the feature set.")
    label: LabelSpec
    estimator: str = Field(description="One of the estimators below, or one that FACTORY_EXTRA_ESTIMATORS allows.")
    params: dict[str, ParamValue] = Field(default_factory=dict, description="Arguments of the estimator's constructor.")
    search: SearchSpec | None = Field(
        default=None, description="A search over parameters, judged on later training rows; never on the holdout."
    )
    sample_weight: SampleWeightSpec | None = Field(default=None, description="What older rows weigh; absent: all the same.")
    segment_by: tuple[ColumnName, ...] = Field(default=(), description="Columns that make a fleet: one model for each key.")
    parents: tuple[tuple[ColumnName, ...], ...] = Field(
        default=(),
        description="Coarser keys that serve where a segment cannot, each of fewer columns; a model of all rows comes last.",
    )
    segments: SegmentsSpec = SegmentsSpec()
    executor: Executor = Field(default="processes", description="Where the models of a fleet are fitted.")
    mlflow: MlflowSpec = MlflowSpec()
    validation: ValidationSpec = ValidationSpec()
    promote_when: PromotionSpec = PromotionSpec()
    freshness: FreshnessSpec = FreshnessSpec()
    drift: DriftSpec = DriftSpec()
    quality: QualitySpec = QualitySpec()
    skew: SkewSpec = SkewSpec()
    retrain: RetrainSpec = RetrainSpec()
    when_broken: Literal["block", "go_on"] = Field(
        default="block",
        description="Days of which a source is held or missing: `block` leaves them unscored until it is mended, `go_on` "
        "scores them with what there is.",
    )
    blocked_by: tuple[str, ...] = Field(
        default=(),
        description="Checks of your own, named as in a rule of `retrain.triggers`: while one fails no day is scored.",
    )
    owners: tuple[str, ...] = Field(default=(), description="As in Dagster: `team:name` or an address.")

    @field_validator("estimator")
    @classmethod
    def _estimator_is_allowed(cls, path: str) -> str:
        estimators.find_estimator(path)
        return path

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        if METRICS[self.metric][0] != self.task:
            fitting = [name for name, (task, _) in METRICS.items() if task == self.task]
            raise ValueError(f"validation.metric {self.metric!r} is not for {self.task}: choose one of {', '.join(fitting)}")
        gate = self.promote_when
        if self.higher_is_better and gate.at_most is not None:
            raise ValueError(f"promote_when.at_most makes no sense for {self.metric} (higher is better): use at_least")
        if not self.higher_is_better and gate.at_least is not None:
            raise ValueError(f"promote_when.at_least makes no sense for {self.metric} (lower is better): use at_most")
        for column in (self.as_of, *self.entity):
            if column in self.features:
                raise ValueError(f"features: {column!r} names the row and cannot be a feature of it")
        if "joint_drift" in self.retrain.named_triggers and self.drift.joint is None:
            raise ValueError("retrain.triggers names joint_drift, which needs the key drift.joint: add `joint: {}` to drift")
        self._levels_fit_together()
        return self

    def _levels_fit_together(self) -> None:
        if not self.segment_by:
            given = sorted({"parents", "segments", "executor", "mlflow"} & self.model_fields_set)
            if given:
                raise ValueError(f"{', '.join(given)} is for a line with segment_by: add that key, or leave this one out")
        if self.as_of in self.segment_by:
            raise ValueError(f"segment_by: {self.as_of!r} is the as-of time, of which every row has its own")
        problem = self._problem_of_parents()
        if problem:
            raise ValueError(problem)

    def _problem_of_parents(self) -> str:
        below = self.segment_by
        if len(set(below)) < len(below):
            return f"segment_by: a column stands twice in {list(below)}"
        for columns in self.parents:
            if not columns or not set(columns) < set(below) or len(set(columns)) < len(columns):
                return (
                    f"parents: {list(columns)} must be some, not all, of {list(below)}, the key below it;"
                    " the model of all rows comes last by itself"
                )
            below = columns
        return ""

    @property
    def features_named_by_drift(self) -> dict[str, str]:
        """The features that `drift` names, by the key that names each; the model's own score and label are none."""
        ignored = {f"drift.ignore.{place}": name for place, name in enumerate(self.drift.ignore)}
        judged = {f"drift.features.{name}": name for name in self.drift.features if name not in ("prediction", "label")}
        return ignored | judged

    @property
    def levels(self) -> tuple[tuple[str, ...], ...]:
        """The key columns of each level, from the segments to the root of all rows, which has none."""
        return (self.segment_by, *self.parents, ()) if self.segment_by else ((),)

    @property
    def row_key(self) -> tuple[str, ...]:
        """The columns that name a row: the as-of time first, each column once (the as-of time may be an entity's part)."""
        return tuple(dict.fromkeys((self.as_of, *self.entity)))

    @property
    def exam_span(self) -> timedelta:
        """The newest part of a fleet's holdout, on which nothing is chosen but the depth of the hierarchy."""
        return self.validation.holdout / 4 if self.segment_by else timedelta(0)

    @property
    def task(self) -> Task:
        """Classification or regression, as the estimator says."""
        return estimators.find_estimator(self.estimator).task

    @property
    def metric(self) -> str:
        """The metric of the gate."""
        return self.validation.metric or ("roc_auc" if self.task == "classification" else "rmse")

    @property
    def higher_is_better(self) -> bool:
        """The direction of `metric`."""
        return METRICS[self.metric][1]
