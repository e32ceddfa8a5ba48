"""From labelled rows to a fitted, evaluated model: the cut in time, the fit, and what drift is measured against."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.pipeline import Pipeline

from factory_assets.contracts.model_line import ModelLineSpec, Task
from factory_assets.contracts.reports import Evaluation, FeatureReference, ScoreProfile
from factory_assets.core.drift import build_reference, build_score_profile, numeric_references
from factory_assets.core.metrics import evaluate_metrics
from factory_assets.core.models.estimators import build_baseline, build_estimator, fit_pipeline, takes_sample_weight
from factory_assets.core.models.features import prepare_features, table_kinds
from factory_assets.core.models.many_rows import MANY_ROWS
from factory_assets.core.models.prediction import predict_prepared, predict_scores
from factory_assets.core.training.search import Fold, Params, SearchReport, cut_folds, draw_candidates, search_params
from factory_assets.core.training.time_split import LABEL, TimeSplit, utc_instants
from factory_assets.core.training.weights import recency_weights

__all__ = ["LABEL", "PREDICTION", "TrainedModel", "fill_empty_columns", "fit_and_evaluate", "name_features"]

PREDICTION = "prediction"


@dataclass(frozen=True)
class TrainedModel:
    """A fitted pipeline with everything that the gate, the registry and the drift check want to know of it.

    `references` holds one entry a feature and one named "label" (training rows), and one named "prediction" (holdout
    scores: those of training rows are overconfident, and would drift at once); `profile` is the holdout by ranges of the
    score. `holdout_scores` and `holdout_labels` are float64 of shape (n,), `exam_scores` of shape (rows of the exam,).
    `model` is None once it travels as bytes. `search` is there when the line declares one.
    """

    model: Pipeline | None
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    evaluation: Evaluation
    references: tuple[FeatureReference, ...]
    profile: ScoreProfile
    holdout_scores: np.ndarray
    holdout_labels: np.ndarray
    exam_scores: np.ndarray
    search: SearchReport | None = None


def fit_and_evaluate(
    spec: ModelLineSpec,
    split: TimeSplit,
    kinds: tuple[Sequence[str], Sequence[str]] | None = None,
    with_baseline: bool = True,
) -> TrainedModel:
    """Fits the line's estimator, its dummy and its baseline on the same rows, and evaluates them on the holdout.

    The result depends on the rows, not on their order: they are sorted by as-of time and entity before the fit. A declared
    search comes first, and sees the training rows alone; a declared sample weight holds for every fit, and no evaluation.

    Args:
        spec: the model line.
        split: the rows.
        kinds: numeric and categorical features; absent: as the training rows have them.
        with_baseline: without it the evaluation's `baseline` is empty.

    Raises:
        ValueError: for a feature column that is absent or of a type no model takes, for a label that is not 0 or 1 in
            a classification, for parameters that the estimator refuses, and for a sample weight that it does not take.
    """
    train, later, judged, cut_utc = _in_order(split.train, spec), split.later, len(split.holdout), split.cut_utc
    # Where that made a copy, the rows out of order are not needed beside it.
    del split
    numeric, categorical = kinds or table_kinds(train, name_features(spec, train.column_names))
    moments, holdout_moments = utc_instants(train[spec.as_of]), utc_instants(later[spec.as_of])[:judged]
    inputs = prepare_features(train, numeric, categorical)
    target, labels = _labels(train, spec.task), _labels(later.slice(0, judged), spec.task)
    weights = _weights(spec, moments, cut_utc)
    # The fit needs the matrix alone, and of many rows it needs the memory for copies of it.
    del train
    references = _references(inputs, target, numeric, categorical, _days(moments))
    seed = spec.validation.seed
    rows = _FitRows(fill_empty_columns(inputs, numeric), target, weights, moments)
    searched = _search(spec, rows, numeric, categorical)
    params = {**spec.params, **(searched.params if searched else {})}
    model = _fit(build_estimator(spec.estimator, params, numeric, categorical, seed), rows)
    # One call for both parts: on a few rows a pipeline's own work is nearly all of a prediction.
    asked = prepare_features(later, numeric, categorical)
    both = predict_prepared(model, asked, spec.task)
    scores = both[:judged]
    # What both dummies of scikit-learn predict, the share of positives or the mean label.
    dummy = evaluate_metrics(spec.task, labels, np.full(len(labels), target.mean()))
    baseline = {}
    if with_baseline:
        linear = _fit(build_baseline(spec.task, numeric, categorical, seed), rows)
        baseline = evaluate_metrics(spec.task, labels, predict_prepared(linear, asked.iloc[:judged], spec.task))
    _make_compact(model)
    finite = np.where(np.isfinite(scores), scores, np.nan)
    (score_reference,) = numeric_references([PREDICTION], finite[:, None], _days(holdout_moments))
    evaluation = Evaluation(spec.metric, len(labels), evaluate_metrics(spec.task, labels, scores), dummy, baseline)
    return TrainedModel(
        model=model,
        numeric=tuple(numeric),
        categorical=tuple(categorical),
        evaluation=evaluation,
        references=(*references, score_reference),
        profile=build_score_profile(scores, labels),
        holdout_scores=scores,
        holdout_labels=labels,
        exam_scores=both[judged:],
        search=searched,
    )


@dataclass(frozen=True)
class _FitRows:
    """Training rows as a pipeline takes them, in the order of time."""

    inputs: pd.DataFrame
    target: np.ndarray
    weights: np.ndarray | None
    moments: np.ndarray

    def take(self, positions: np.ndarray) -> "_FitRows":
        weights = None if self.weights is None else self.weights[positions]
        return _FitRows(self.inputs.iloc[positions], self.target[positions], weights, self.moments[positions])


def _fit(model: Pipeline, rows: _FitRows) -> Pipeline:
    if rows.weights is not None and not takes_sample_weight(model):
        name = type(model.named_steps["model"]).__name__
        raise ValueError(f"sample_weight: {name} cannot weigh rows: leave the key out, or choose another estimator")
    return fit_pipeline(model, rows.inputs, rows.target, rows.weights)


def _weights(spec: ModelLineSpec, moments: np.ndarray, cut_utc: datetime) -> np.ndarray | None:
    if spec.sample_weight is None:
        return None
    return recency_weights(pd.Series(moments), cut_utc, spec.sample_weight.half_life)


def _search(spec: ModelLineSpec, rows: _FitRows, numeric: Sequence[str], categorical: Sequence[str]) -> SearchReport | None:
    """The search that the line declares; each fold is fitted as the model itself is, but on its older rows alone."""
    if spec.search is None:
        return None
    candidates = draw_candidates(spec.search, spec.validation.seed)
    # Once before any trial, so that a misspelt parameter is an error of the declaration and not of a candidate.
    build_estimator(spec.estimator, {**spec.params, **candidates[-1]}, numeric, categorical, 0)

    def judge(params: Params, fold: Fold) -> float:
        older, later = rows.take(fold[0]), rows.take(fold[1])
        older = replace(older, inputs=fill_empty_columns(older.inputs, numeric))
        pipeline = build_estimator(spec.estimator, {**spec.params, **params}, numeric, categorical, spec.validation.seed)
        scores = predict_scores(_fit(pipeline, older), later.inputs, numeric, categorical, spec.task)
        return evaluate_metrics(spec.task, later.target, scores)[spec.metric]

    # A fold whose older rows are of one class teaches nothing, and some estimators refuse it.
    folds = [
        fold
        for fold in cut_folds(rows.moments, spec.search.folds)
        if spec.task == "regression" or np.ptp(rows.target[fold[0]]) > 0
    ]
    return search_params(candidates, folds, judge, spec.metric, spec.higher_is_better)


def name_features(spec: ModelLineSpec, columns: Sequence[str]) -> tuple[str, ...]:
    """The line's features: those it names, or every column that neither names the row nor is the label.

    Raises:
        ValueError: for a feature with the name that the model's own output has.
    """
    features = spec.features or tuple(name for name in columns if name not in (*spec.row_key, LABEL))
    for name in sorted({PREDICTION, LABEL} & set(features)):
        raise ValueError(f"a feature named {name!r} would be mistaken for the model's own output or label: rename it")
    return features


def fill_empty_columns(frame: pd.DataFrame, numeric: Sequence[str]) -> pd.DataFrame:
    """Zeros in the numeric columns that hold no value at all, for the fit only.

    HistGradientBoosting raises on such a column ("window shape cannot be larger than input array shape"). A constant
    column is never split on, so whatever it holds at scoring changes nothing.
    """
    nothing = np.isnan(_numbers(frame, numeric)).all(axis=0)
    empty = [name for name, is_empty in zip(numeric, nothing, strict=True) if is_empty]
    return frame.assign(**dict.fromkeys(empty, 0.0)) if empty else frame


def _in_order(train: pa.Table, spec: ModelLineSpec) -> pa.Table:
    """By as-of time, then entity; rows whose times already rise need no look at the entities."""
    moments = utc_instants(train[spec.as_of])
    if (moments[1:] > moments[:-1]).all():
        return train
    keys = train.select(list(spec.row_key)).to_pandas(ignore_metadata=True)
    return train.take(pa.array(keys.sort_values(list(keys.columns), kind="stable").index))


def _labels(rows: pa.Table, task: Task) -> np.ndarray:
    # A copy, for a view would keep the rows.
    labels = np.array(rows[LABEL].to_numpy(), dtype=np.float64)
    if task == "classification" and not ((labels == 0.0) | (labels == 1.0)).all():
        raise ValueError(f"a classification label is 0 or 1, and this one holds {np.unique(labels)[:5].tolist()}")
    return labels


def _references(
    inputs: pd.DataFrame, target: np.ndarray, numeric: Sequence[str], categorical: Sequence[str], days: np.ndarray
) -> tuple[FeatureReference, ...]:
    """What drift is measured against: one of each feature, and one of the label."""
    if len(target) >= MANY_ROWS:
        # All columns together are quicker of few rows, and of many three more matrices.
        of_features = [build_reference(name, inputs[name], days) for name in (*numeric, *categorical)]
        return (*of_features, build_reference(LABEL, pd.Series(target), days))
    numbers = np.column_stack([_numbers(inputs, numeric), target])
    *of_numbers, of_label = numeric_references([*numeric, LABEL], numbers, days)
    return (*of_numbers, *(build_reference(name, inputs[name], days) for name in categorical), of_label)


def _numbers(inputs: pd.DataFrame, numeric: Sequence[str]) -> np.ndarray:
    """The numeric columns of prepared features; to select them all anew takes longer than all else with a few rows."""
    return (inputs if len(numeric) == inputs.shape[1] else inputs[list(numeric)]).to_numpy(dtype=np.float64)


def _days(moments: np.ndarray) -> np.ndarray:
    """The UTC day of each moment as a number."""
    return moments.astype("datetime64[D]").astype(np.int64)


def _make_compact(model: Pipeline) -> None:
    """Takes out of HistGradientBoosting what makes equal models unequal bytes, and what makes few bytes slow ones.

    It keeps the machine's thread count, and of every tree two tables of categories. Where those are empty one stands for
    all: such a model is written and read in half the time.
    """
    last = model.named_steps["model"]
    bin_mapper = getattr(last, "_bin_mapper", None)
    if bin_mapper is None:
        return
    bin_mapper.n_threads = None
    trees = [tree for iteration in last._predictors for tree in iteration]
    empty = trees[0].raw_left_cat_bitsets[:0].copy()
    for tree in trees:
        if not len(tree.raw_left_cat_bitsets):
            tree.raw_left_cat_bitsets = tree.binned_left_cat_bitsets = empty
