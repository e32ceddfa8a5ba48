"""From a labelled frame to a fitted, evaluated model: the cut in time, the fit, and what drift is measured against."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from factory_assets.contracts.model_line import ModelLineSpec, Task
from factory_assets.contracts.reports import Evaluation, FeatureReference
from factory_assets.core.drift import build_reference
from factory_assets.core.estimators import build_baseline, build_dummy, build_estimator
from factory_assets.core.features import feature_kinds, prepare_features
from factory_assets.core.metrics import evaluate_metrics
from factory_assets.core.prediction import predict_scores

__all__ = [
    "LABEL",
    "PREDICTION",
    "SingleClassError",
    "TimeSplit",
    "TooFewRowsError",
    "TrainedModel",
    "TrainingDataError",
    "feature_kinds",
    "fill_empty_columns",
    "fit_and_evaluate",
    "prepare_features",
    "split_by_time",
]

LABEL = "label"
PREDICTION = "prediction"


class TrainingDataError(ValueError):
    """The labelled rows cannot make a model; the message says what is missing."""


class TooFewRowsError(TrainingDataError):
    """One side of the cut has fewer rows than `validation.min_rows`."""


class SingleClassError(TrainingDataError):
    """Every training row has the same label."""


@dataclass(frozen=True)
class TimeSplit:
    """Rows before the cut, rows after it, both in the order of the frame they came from."""

    train: pd.DataFrame
    holdout: pd.DataFrame
    cut_utc: datetime


@dataclass(frozen=True)
class TrainedModel:
    """A fitted pipeline with everything that the gate, the registry and the drift check want to know of it.

    `references` holds one entry a feature (training rows) and one named "prediction" (holdout scores: those of training
    rows are overconfident, and would drift at once). `holdout_scores` and `holdout_labels` are float64 of shape (n,).
    """

    model: Pipeline
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    evaluation: Evaluation
    references: tuple[FeatureReference, ...]
    holdout_scores: np.ndarray
    holdout_labels: np.ndarray


def split_by_time(
    frame: pd.DataFrame, as_of: str, holdout: timedelta, window: timedelta | None, min_rows: int, now: datetime
) -> TimeSplit:
    """Parts labelled rows at `now - holdout`: later rows are the holdout, never seen by the fit.

    Rows of the future (`as_of` after `now`) are on neither side, nor are rows older than `window` before the cut.

    Args:
        frame: columns `as_of` (timestamps; naive ones are read as UTC), "label" without nulls, and the features.
        as_of: name of the timestamp column.
        holdout: span of the holdout, back from `now`.
        window: span of the training rows, back from the cut; None takes all.
        min_rows: fewest rows on either side.
        now: factory time, timezone-aware.

    Raises:
        TooFewRowsError: when one side is too small.
        SingleClassError: when the training labels are all the same.
        ValueError: for a naive `now`, or null labels or times.
    """
    if now.tzinfo is None:
        raise ValueError("now must be timezone-aware")
    moments = pd.to_datetime(frame[as_of], utc=True)
    if moments.isna().any() or frame[LABEL].isna().any():
        raise ValueError(f"every labelled row needs {as_of!r} and {LABEL!r}: drop the rows without one first")
    cut = now - holdout
    seen = moments <= cut
    if window is not None:
        seen &= moments > cut - window
    train, newest = frame[seen], frame[(moments > cut) & (moments <= now)]
    for side, rows in (("before", train), ("after", newest)):
        if len(rows) < min_rows:
            raise TooFewRowsError(
                f"{len(rows)} labelled rows {side} the cut at {cut.isoformat()}, and validation.min_rows is {min_rows}:"
                " wait for more data, or change validation.holdout, window or min_rows"
            )
    if train[LABEL].nunique() == 1:
        raise SingleClassError(
            f"all {len(train)} training rows before {cut.isoformat()} have the label {train[LABEL].iloc[0]!r}:"
            " there is nothing to learn"
        )
    return TimeSplit(train, newest, cut)


def fit_and_evaluate(spec: ModelLineSpec, split: TimeSplit) -> TrainedModel:
    """Fits the line's estimator, its dummy and its baseline on the same rows, and evaluates them on the holdout.

    The result depends on the rows, not on their order: they are sorted by as-of time and entity before the fit.

    Raises:
        ValueError: for a feature column that is absent or of a type no model takes, for a label that is not 0 or 1 in
            a classification, and for parameters that the estimator refuses.
    """
    train = split.train.sort_values([spec.as_of, *spec.entity], kind="stable")
    features = spec.features or tuple(c for c in train.columns if c not in (*spec.entity, spec.as_of, LABEL))
    if PREDICTION in features:
        raise ValueError(f"a feature named {PREDICTION!r} would be mistaken for the model's own output: rename it")
    numeric, categorical = feature_kinds(train, features)
    inputs = fill_empty_columns(prepare_features(train, numeric, categorical), numeric)
    target, labels = _labels(train, spec.task), _labels(split.holdout, spec.task)

    def metrics_of(model: Pipeline) -> tuple[np.ndarray, dict[str, float]]:
        scores = predict_scores(model.fit(inputs, target), split.holdout, numeric, categorical, spec.task)
        return scores, evaluate_metrics(spec.task, labels, scores)

    seed = spec.validation.seed
    model = build_estimator(spec.estimator, spec.params, numeric, categorical, seed)
    _, dummy = metrics_of(Pipeline([("model", build_dummy(spec.task))]))
    _, baseline = metrics_of(build_baseline(spec.task, numeric, categorical, seed))
    scores, metrics = metrics_of(model)
    _forget_threads(model)
    references = [build_reference(name, train[name]) for name in features]
    references.append(build_reference(PREDICTION, pd.Series(scores)))
    evaluation = Evaluation(spec.metric, len(labels), metrics, dummy, baseline)
    return TrainedModel(model, tuple(numeric), tuple(categorical), evaluation, tuple(references), scores, labels)


def fill_empty_columns(frame: pd.DataFrame, numeric: Sequence[str]) -> pd.DataFrame:
    """Zeros in the numeric columns that hold no value at all, for the fit only.

    HistGradientBoosting raises on such a column ("window shape cannot be larger than input array shape"). A constant
    column is never split on, so whatever it holds at scoring changes nothing.
    """
    empty = [name for name in numeric if frame[name].isna().all()]
    return frame.assign(**dict.fromkeys(empty, 0.0)) if empty else frame


def _labels(frame: pd.DataFrame, task: Task) -> np.ndarray:
    labels = frame[LABEL].to_numpy(dtype=np.float64)
    if task == "classification" and not np.isin(labels, (0.0, 1.0)).all():
        raise ValueError(f"a classification label is 0 or 1, and this one holds {np.unique(labels)[:5].tolist()}")
    return labels


def _forget_threads(model: Pipeline) -> None:
    """HistGradientBoosting keeps the machine's thread count, the one thing that made equal models unequal bytes."""
    bin_mapper = getattr(model.named_steps["model"], "_bin_mapper", None)
    if bin_mapper is not None:
        bin_mapper.n_threads = None
