"""The single predict path: evaluation, scoring and importance all call `predict_scores`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from factory_assets.contracts.model_line import Task
from factory_assets.core.models.estimators import past_columns
from factory_assets.core.models.features import prepare_features


def predict_scores(
    model: Any, rows: pd.DataFrame | pa.Table, numeric: Sequence[str], categorical: Sequence[str], task: Task
) -> np.ndarray:
    """Scores rows: the probability of the positive class (label 1), or the predicted value.

    Args:
        model: a fitted scikit-learn model; a classifier has seen labels 0, 1 or both.
        rows: the raw feature columns, shape (n, ...), n may be zero.
        numeric: numeric feature names, as in the fit.
        categorical: categorical feature names, as in the fit.
        task: of the model.

    Returns:
        float64 of shape (n,), in the order of `rows`.

    Raises:
        ValueError: for an absent or mistyped feature column.
    """
    return predict_prepared(model, prepare_features(rows, numeric, categorical), task)


def predict_prepared(model: Any, features: pd.DataFrame, task: Task) -> np.ndarray:
    """`predict_scores` of rows that `prepare_features` already made ready, so that many models can share one preparation."""
    if features.empty:
        return np.zeros(len(features), dtype=np.float64)
    model, rows = past_columns(model, features)
    if task == "regression":
        return np.asarray(model.predict(rows), dtype=np.float64).reshape(-1)
    classes = np.asarray(model.classes_, dtype=np.float64)
    if len(classes) == 1:  # Forests then return one column and HistGradientBoosting two: neither is asked.
        return np.full(len(features), float(classes[0] == 1.0))
    positive = int(np.flatnonzero(classes == 1.0)[0])
    return np.asarray(model.predict_proba(rows)[:, positive], dtype=np.float64)
