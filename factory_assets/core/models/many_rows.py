"""How many rows reach a model: imputed and scaled to the same bits as by the steps themselves, with fewer copies of them.

A median of scikit-learn's imputer sorts all columns together, with four copies of them; the scaler's fit makes a matrix of
all deviations; each step gives another; and a linear model copies what is not in its order of memory.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler

# From so many rows on, copies of them are dearer than the time that it takes to do without.
MANY_ROWS = 100_000
_BLOCK_ROWS = 50_000


def prepare_many(steps: Sequence[Any], values: np.ndarray) -> np.ndarray:
    """Fits an imputer by the median, and the scaler after it if there is one, and gives what they make of the rows.

    Args:
        steps: unfitted.
        values: float64 of shape (n, features), NaN for what is missing; not changed.

    Returns:
        float64 of shape (n, features and indicators), in C order.
    """
    imputer, *scalers = steps
    imputer.fit(_as_few(values))
    for scaler in scalers:
        _fit_by_column(scaler, _transform_by_block([imputer], values, "F"))
    return _transform_by_block(steps, values, "C")


def _as_few(values: np.ndarray) -> np.ndarray:
    """Two rows with the medians of `values`, and a missing value wherever a column has one."""
    few = np.empty((2, values.shape[1]))
    for place, column in enumerate(values.T):
        missing = np.isnan(column)
        median = np.median(column[~missing]) if not missing.all() else np.nan
        few[:, place] = median, np.nan if missing.any() else median
    return few


def _fit_by_column(scaler: StandardScaler, values: np.ndarray) -> None:
    """As its own fit, which makes another matrix of the deviations from the mean."""
    of_columns = [clone(scaler).fit(column[:, None]) for column in values.T]
    scaler.fit(values[:1])
    for name in ("mean_", "var_", "scale_"):
        setattr(scaler, name, np.concatenate([getattr(fitted, name) for fitted in of_columns]))
    scaler.n_samples_seen_ = of_columns[0].n_samples_seen_


def _transform_by_block(steps: Sequence[Any], values: np.ndarray, order: Literal["C", "F"]) -> np.ndarray:
    width = transform_by(steps, values[:1]).shape[1]
    made = np.empty((len(values), width), order=order)
    for start in range(0, len(values), _BLOCK_ROWS):
        made[start : start + _BLOCK_ROWS] = transform_by(steps, values[start : start + _BLOCK_ROWS])
    return made


def transform_by(steps: Sequence[Any], values: np.ndarray) -> np.ndarray:
    """What fitted steps make of the values, one after the other."""
    for step in steps:
        values = step.transform(values)
    return values
