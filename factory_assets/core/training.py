"""From a labelled frame to a fitted, evaluated model: the cut in time, the fit, and what drift is measured against."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from factory_assets.contracts.model_line import ModelLineSpec, Task
from factory_assets.contracts.reports import Evaluation, FeatureReference
from factory_assets.core.drift import build_reference
from factory_assets.core.estimators import build_baseline, build_estimator
from factory_assets.core.features import feature_kinds, prepare_features
from factory_assets.core.metrics import evaluate_metrics
from factory_assets.core.prediction import predict_scores
from factory_assets.core.time_split import (
    LABEL,
    SingleClassError,
    TimeSplit,
    TooFewRowsError,
    TrainingDataError,
    split_by_time,
)

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

PREDICTION = "prediction"


@dataclass(frozen=True)
class TrainedModel:
    """A fitted pipeline with everything that the gate, the registry and the drift check want to know of it.

    `references` holds one entry a feature (training rows) and one named "prediction" (holdout scores: those of training
    rows are overconfident, and would drift at once). `holdout_scores` and `holdout_labels` are float64 of shape (n,),
    `exam_scores` of shape (rows of the exam,). `model` is None once it travels as bytes.
    """

    model: Pipeline | None
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    evaluation: Evaluation
    references: tuple[FeatureReference, ...]
    holdout_scores: np.ndarray
    holdout_labels: np.ndarray
    exam_scores: np.ndarray


def fit_and_evaluate(
    spec: ModelLineSpec,
    split: TimeSplit,
    kinds: tuple[Sequence[str], Sequence[str]] | None = None,
    with_baseline: bool = True,
) -> TrainedModel:
    """Fits the line's estimator, its dummy and its baseline on the same rows, and evaluates them on the holdout.

    The result depends on the rows, not on their order: they are sorted by as-of time and entity before the fit.

    Args:
        spec: the model line.
        split: the rows.
        kinds: numeric and categorical features; absent: as the training rows have them.
        with_baseline: without it the evaluation's `baseline` is empty.

    Raises:
        ValueError: for a feature column that is absent or of a type no model takes, for a label that is not 0 or 1 in
            a classification, and for parameters that the estimator refuses.
    """
    train = split.train.sort_values([spec.as_of, *spec.entity], kind="stable")
    numeric, categorical = kinds or feature_kinds(train, name_features(spec, list(train.columns)))
    inputs = fill_empty_columns(prepare_features(train, numeric, categorical), numeric)
    target, labels = _labels(train, spec.task), _labels(split.holdout, spec.task)

    def score(model: Pipeline, rows: pd.DataFrame) -> np.ndarray:
        return predict_scores(model, rows, numeric, categorical, spec.task) if len(rows) else np.empty(0)

    seed = spec.validation.seed
    model = build_estimator(spec.estimator, spec.params, numeric, categorical, seed).fit(inputs, target)
    scores = score(model, split.holdout)
    # What both dummies of scikit-learn predict, the share of positives or the mean label.
    dummy = evaluate_metrics(spec.task, labels, np.full(len(labels), target.mean()))
    baseline = {}
    if with_baseline:
        linear = build_baseline(spec.task, numeric, categorical, seed).fit(inputs, target)
        baseline = evaluate_metrics(spec.task, labels, score(linear, split.holdout))
    _forget_threads(model)
    references = [build_reference(name, train[name]) for name in train.columns if name in {*numeric, *categorical}]
    references.append(build_reference(PREDICTION, pd.Series(scores)))
    evaluation = Evaluation(spec.metric, len(labels), evaluate_metrics(spec.task, labels, scores), dummy, baseline)
    return TrainedModel(
        model=model,
        numeric=tuple(numeric),
        categorical=tuple(categorical),
        evaluation=evaluation,
        references=tuple(references),
        holdout_scores=scores,
        holdout_labels=labels,
        exam_scores=score(model, split.exam),
    )


def name_features(spec: ModelLineSpec, columns: Sequence[str]) -> tuple[str, ...]:
    """The line's features: those it names, or every column that neither names the row nor is the label.

    Raises:
        ValueError: for a feature with the name that the model's own output has.
    """
    features = spec.features or tuple(name for name in columns if name not in (*spec.row_key, LABEL))
    if PREDICTION in features:
        raise ValueError(f"a feature named {PREDICTION!r} would be mistaken for the model's own output: rename it")
    return features


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
