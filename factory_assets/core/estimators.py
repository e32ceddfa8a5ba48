"""Pipelines that take raw feature columns by name: encoding, imputing and scaling travel inside the model.

Only scikit-learn classes go into a pipeline, so that a stored model can be read without this package, and so that a
module moved here never makes an old champion unreadable.
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

from factory_assets.contracts.model_line import ESTIMATORS, Task

_HISTOGRAM_BINS = 255  # HistGradientBoosting's default; a categorical feature may not have more values than bins.
_ONE_HOT_CATEGORIES = 64
_ONE_HOT_MIN_ROWS = 10
# Set by the factory, from `validation.seed` and from the dtypes of the feature set.
_RESERVED = frozenset({"random_state", "categorical_features"})
# lbfgs stops at 100 iterations by default, short of convergence on a few one-hot columns.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "sklearn.linear_model.LogisticRegression": {"max_iter": 1000},
    "sklearn.linear_model.PoissonRegressor": {"max_iter": 1000},
}


def build_estimator(
    estimator: str, params: Mapping[str, Any], numeric: Sequence[str], categorical: Sequence[str], seed: int
) -> Pipeline:
    """Builds the unfitted pipeline of a model line; equal arguments and rows give an equal model.

    It takes a frame with at least the named columns: numeric ones float64 with NaN, categorical ones str, None or NaN.
    Other columns are ignored, column order is free, and a category unseen in the fit counts as missing or as rare.
    HistGradientBoosting raises on a numeric column without a single value: `training.fill_empty_columns` goes before.

    Args:
        estimator: a dotted path of `contracts.model_line.ESTIMATORS`.
        params: constructor arguments, as written in YAML.
        numeric: names of the numeric columns.
        categorical: names of the categorical columns.
        seed: becomes `random_state` where the estimator has one.

    Raises:
        ValueError: for an estimator off the list, for a parameter it does not have, and without any feature.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"{estimator!r} is not on the allow-list of estimators: choose one of {', '.join(ESTIMATORS)}")
    if not numeric and not categorical:
        raise ValueError("a model needs at least one feature column")
    module, class_name = estimator.rsplit(".", 1)
    model_class = getattr(importlib.import_module(module), class_name)
    known = set(model_class().get_params())
    allowed = sorted(known - _RESERVED)
    for name in params:
        if name not in allowed:
            raise ValueError(f"params: {class_name} has no parameter {name!r} to set here: choose from {', '.join(allowed)}")
    arguments = {**_DEFAULTS.get(estimator, {}), **params}
    if "random_state" in known:
        arguments["random_state"] = seed
    if "HistGradientBoosting" in class_name:
        # The encoded categories come first, so their indices are known before the fit.
        arguments["categorical_features"] = list(range(len(categorical))) or None
        columns = _histogram_columns(numeric, categorical, int(arguments.get("max_bins", _HISTOGRAM_BINS)))
    else:
        columns = _dense_columns(numeric, categorical, scale=module == "sklearn.linear_model")
    return Pipeline([("columns", columns), ("model", model_class(**arguments))])


def build_baseline(task: Task, numeric: Sequence[str], categorical: Sequence[str], seed: int) -> Pipeline:
    """The simple linear model that an elaborate one must justify itself against: logistic regression or ridge."""
    name = "LogisticRegression" if task == "classification" else "Ridge"
    return build_estimator(f"sklearn.linear_model.{name}", {}, numeric, categorical, seed)


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
    impute = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    encoder = OneHotEncoder(
        handle_unknown="infrequent_if_exist", min_frequency=_ONE_HOT_MIN_ROWS, max_categories=_ONE_HOT_CATEGORIES
    )
    encode = Pipeline([("text", _as_text()), ("encode", encoder)])
    scaled = Pipeline([("impute", impute), ("scale", StandardScaler())]) if scale else impute
    return _by_name(("categorical", encode, categorical), ("numeric", scaled, numeric))


def _as_text() -> FunctionTransformer:
    """One spelling of "missing": to the encoders None, NaN and pd.NA are three different categories."""
    return FunctionTransformer(pd.DataFrame.astype, kw_args={"dtype": "str"}, feature_names_out="one-to-one")


def _by_name(*branches: tuple[str, Any, Sequence[str]]) -> ColumnTransformer:
    """Column lists, not tuples (a tuple is taken for a single label); an absent kind of column leaves no branch."""
    present = [(name, transformer, list(columns)) for name, transformer, columns in branches if columns]
    return ColumnTransformer(present, remainder="drop", verbose_feature_names_out=False)
