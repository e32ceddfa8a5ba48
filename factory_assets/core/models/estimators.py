"""Pipelines that take raw feature columns by name: encoding, imputing and scaling travel inside the model.

Around a built-in estimator only scikit-learn classes go into a pipeline, so that a stored model can be read without this
package, and so that a module moved here never makes an old champion unreadable.
"""

import importlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.utils.validation import has_fit_parameter

from factory_assets.contracts.estimators import Columns, find_estimator
from factory_assets.contracts.model_line import Task
from factory_assets.contracts.names import suggest
from factory_assets.core.models.many_rows import MANY_ROWS, prepare_many, transform_by

_HISTOGRAM_BINS = 255  # HistGradientBoosting's default; a categorical feature may not have more values than bins.
_ONE_HOT_CATEGORIES = 64
_ONE_HOT_MIN_ROWS = 10
_VALUES = "values"
_SEED = "random_state"
_CODED = "categorical_features"
# Set by the factory, from `validation.seed` and from the dtypes of the feature set.
_RESERVED = frozenset({_SEED, _CODED})
# lbfgs stops at 100 iterations by default, short of convergence on a few one-hot columns.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "sklearn.linear_model.LogisticRegression": {"max_iter": 1000},
    "sklearn.linear_model.PoissonRegressor": {"max_iter": 1000},
    "sklearn.linear_model.TweedieRegressor": {"max_iter": 1000},
    "sklearn.linear_model.HuberRegressor": {"max_iter": 1000},
    "sklearn.neural_network.MLPClassifier": {"max_iter": 1000},
    "sklearn.neural_network.MLPRegressor": {"max_iter": 1000},
}


class EstimatorImportError(ImportError):
    """An estimator is on the allow-list, and cannot be imported here."""


def build_estimator(
    estimator: str, params: Mapping[str, Any], numeric: Sequence[str], categorical: Sequence[str], seed: int
) -> Pipeline:
    """Builds the unfitted pipeline of a model line; equal arguments and rows give an equal model.

    It takes a frame with at least the named columns: numeric ones float64 with NaN, categorical ones str, None or NaN.
    Other columns are ignored, column order is free, and a category unseen in the fit counts as missing or as rare.
    HistGradientBoosting raises on a numeric column without a single value: `training.fill_empty_columns` goes before.
    An estimator whose columns are `raw` gets the named columns as they are.

    Args:
        estimator: a dotted path on the allow-list (`contracts.estimators`): a class, or a function that returns an
            unfitted estimator or Pipeline.
        params: its arguments, as written in YAML.
        numeric: names of the numeric columns.
        categorical: names of the categorical columns.
        seed: becomes every `random_state` that is not set, of the estimator and of its parts.

    Returns:
        A pipeline whose last step is named "model".

    Raises:
        EstimatorImportError: when the path leads nowhere.
        ValueError: for an estimator off the list, for a parameter it does not have, and without any feature.
    """
    allowed = find_estimator(estimator)
    if not numeric and not categorical:
        raise ValueError("a model needs at least one feature column")
    make = _import(estimator)
    known = _parameters(make)
    problems = find_absent_params(estimator, params)
    if problems:
        raise ValueError(f"params: {'; '.join(problems.values())}")
    arguments = {**_DEFAULTS.get(estimator, {}), **params}
    if _CODED in known and allowed.columns == "native":
        # The encoded categories come first, so their indices are known before the fit.
        arguments[_CODED] = list(range(len(categorical))) or None
    model = make(**arguments)
    unset = [name for name, value in model.get_params().items() if value is None]
    model.set_params(**{name: seed for name in unset if name == _SEED or name.endswith(f"__{_SEED}")})
    max_bins = int(arguments.get("max_bins", _HISTOGRAM_BINS))
    # A user's pipeline is taken apart, so that the last step of every model is found, and weighted, in the same way.
    own, last = (model.steps[:-1], model.steps[-1][1]) if isinstance(model, Pipeline) else ([], model)
    return Pipeline([("columns", _columns(allowed.columns, numeric, categorical, max_bins)), *own, ("model", last)])


def find_absent_params(estimator: str, names: Iterable[str]) -> dict[str, str]:
    """Those of `names` that a line cannot set for an allowed estimator, each with what to write instead.

    Raises:
        EstimatorImportError: when the path leads nowhere.
    """
    make = _import(estimator)
    settable = _parameters(make) - _RESERVED
    remedies = {name: suggest(name, settable) for name in names if name not in settable}
    remedies |= dict.fromkeys(_RESERVED & set(remedies), "the factory sets it, leave it out")
    return {name: f"{make.__name__} has no parameter {name!r} to set here: {said}" for name, said in remedies.items()}


def takes_sample_weight(pipeline: Pipeline) -> bool:
    """Whether the fit of the last step can weigh rows."""
    return bool(has_fit_parameter(pipeline.named_steps["model"], "sample_weight"))


def fit_pipeline(
    pipeline: Pipeline, rows: pd.DataFrame, target: np.ndarray, sample_weight: np.ndarray | None = None
) -> Pipeline:
    """Fits a pipeline of `build_estimator`, to the same bytes whatever the way, and of many rows with less memory.

    Args:
        pipeline: unfitted.
        rows: what it takes.
        target: one value a row.
        sample_weight: of the fit of the last step.
    """
    steps = _steps_on_matrix(pipeline, rows)
    values: Any
    rest, values = (pipeline, rows) if steps is None else (_past_columns(pipeline), rows.to_numpy())
    if steps and len(values) >= MANY_ROWS:
        values = prepare_many(steps, values)
    else:
        for step in steps or ():
            values = step.fit(values).transform(values)
    # A part shares its steps with the whole.
    name = "model__sample_weight" if isinstance(rest, Pipeline) else "sample_weight"
    rest.fit(values, target, **({} if sample_weight is None else {name: sample_weight}))
    return pipeline


def past_columns(model: Any, rows: pd.DataFrame) -> tuple[Any, pd.DataFrame | np.ndarray]:
    """What is left of a fitted pipeline of `build_estimator`, and what it takes, where rows are the very columns it selects.

    To select them again costs as much as a small model's prediction, and so do scikit-learn's checks of a frame and a
    pipeline's of its steps. Any other model and its rows are given back.
    """
    steps = _steps_on_matrix(model, rows)
    if steps is None:
        return model, rows
    return _past_columns(model), transform_by(steps, rows.to_numpy())


def _steps_on_matrix(model: Any, rows: pd.DataFrame) -> list[Any] | None:
    """What a pipeline of `build_estimator` does with the numbers that it selects; None unless they are all of the rows."""
    steps: Sequence[Any] = getattr(model, "steps", ())
    first: Sequence[Any] = getattr(steps[0][1], "steps", ()) if steps else ()
    if len(first) < 2 or first[1][0] != _VALUES or first[0][1].kw_args["key"] != list(rows.columns):
        return None
    return [step for _, step in first[2:]]


def _past_columns(pipeline: Pipeline) -> Any:
    return pipeline[1:] if len(pipeline.steps) > 2 else pipeline.steps[1][1]


def _import(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise EstimatorImportError(
            f"the estimator {path!r} is allowed, but cannot be imported here ({error}): install its package where models"
            " are trained and scored, or correct FACTORY_EXTRA_ESTIMATORS"
        ) from error


@cache
def _parameters(make: Any) -> frozenset[str]:
    """Names of the arguments; those of a class are what scikit-learn takes for its parameters."""
    parameters = inspect.signature(make).parameters.values()
    return frozenset(parameter.name for parameter in parameters if parameter.kind in _BY_NAME)


_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def build_baseline(task: Task, numeric: Sequence[str], categorical: Sequence[str], seed: int) -> Pipeline:
    """The simple linear model that an elaborate one must justify itself against: logistic regression or ridge."""
    name = "LogisticRegression" if task == "classification" else "Ridge"
    return build_estimator(f"sklearn.linear_model.{name}", {}, numeric, categorical, seed)


def _columns(columns: Columns, numeric: Sequence[str], categorical: Sequence[str], max_bins: int) -> BaseEstimator:
    if columns == "raw":
        return _selecting([*numeric, *categorical])
    if not categorical:
        # A ColumnTransformer with one branch costs 5 ms a fit, a quarter of a small model's own.
        as_matrix = FunctionTransformer(np.asarray, kw_args={"dtype": "float64"})
        steps = [] if columns == "native" else _numeric_steps(scale=columns == "scaled")
        return Pipeline([("select", _selecting(numeric)), (_VALUES, as_matrix), *steps])
    if columns == "native":
        return _histogram_columns(numeric, categorical, max_bins)
    return _dense_columns(numeric, categorical, scale=columns == "scaled")


def _selecting(names: Sequence[str]) -> FunctionTransformer:
    """Columns by name, an absent one raises; whatever else the frame holds stays behind."""
    return FunctionTransformer(pd.DataFrame.__getitem__, kw_args={"key": list(names)})


def _numeric_steps(scale: bool) -> list[tuple[str, BaseEstimator]]:
    impute = ("impute", SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True))
    return [impute, ("scale", StandardScaler())] if scale else [impute]


def _histogram_columns(numeric: Sequence[str], categorical: Sequence[str], max_bins: int) -> ColumnTransformer:
    encoder = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        encoded_missing_value=np.nan,
        max_categories=max(1, min(max_bins, _HISTOGRAM_BINS) - 1),
    )
    encode = Pipeline([("text", _as_text()), ("encode", encoder)])
    return _by_name(("categorical", encode, categorical), ("numeric", "passthrough", numeric))


def _dense_columns(numeric: Sequence[str], categorical: Sequence[str], scale: bool) -> ColumnTransformer:
    encoder = OneHotEncoder(
        handle_unknown="infrequent_if_exist", min_frequency=_ONE_HOT_MIN_ROWS, max_categories=_ONE_HOT_CATEGORIES
    )
    encode = Pipeline([("text", _as_text()), ("encode", encoder)])
    return _by_name(("categorical", encode, categorical), ("numeric", Pipeline(_numeric_steps(scale)), numeric))


def _as_text() -> FunctionTransformer:
    """One spelling of "missing": to the encoders None, NaN and pd.NA are three different categories."""
    return FunctionTransformer(pd.DataFrame.astype, kw_args={"dtype": "str"}, feature_names_out="one-to-one")


def _by_name(*branches: tuple[str, Any, Sequence[str]]) -> ColumnTransformer:
    """Column lists, not tuples (a tuple is taken for a single label); an absent kind of column leaves no branch."""
    present = [(name, transformer, list(columns)) for name, transformer, columns in branches if columns]
    return ColumnTransformer(present, remainder="drop", verbose_feature_names_out=False)
