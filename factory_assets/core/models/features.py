"""Which columns are numbers and which are text, and the one form in which both reach a model."""

from collections.abc import Hashable, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api import types

_NUMERIC_OBJECTS = frozenset({"boolean", "integer", "floating", "mixed-integer-float", "decimal"})
_TEXT_OBJECTS = frozenset({"string", "empty"})


def is_numeric(values: pd.Series) -> bool:
    """Whether a column is a number (booleans are) rather than text; a column of None alone counts as text.

    >>> is_numeric(pd.Series([True, None], dtype="boolean")), is_numeric(pd.Series(["x", None]))
    (True, False)

    Raises:
        ValueError: for timestamps, dates and anything else that is neither.
    """
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return is_numeric(pd.Series(dtype.categories))
    if types.is_bool_dtype(dtype) or types.is_numeric_dtype(dtype):
        return True
    if types.is_object_dtype(dtype):
        kind = types.infer_dtype(values, skipna=True)
        if kind in _NUMERIC_OBJECTS or kind in _TEXT_OBJECTS:
            return kind in _NUMERIC_OBJECTS
    elif types.is_string_dtype(dtype):
        return False
    raise ValueError(
        f"column {values.name!r} is {dtype}: a feature is a number, a boolean or text; turn a time into a number"
        " (hours, days since) in the feature model, or leave the column out of `features`"
    )


def feature_kinds(frame: pd.DataFrame, features: Sequence[str]) -> tuple[list[str], list[str]]:
    """Parts `features` into (numeric, categorical), both in the order given.

    Raises:
        ValueError: for a feature that the frame lacks, or that is neither a number nor text.
    """
    absent = [name for name in features if name not in frame.columns]
    if absent:
        raise ValueError(f"features {absent} are not columns of the frame, which has {list(frame.columns)}")
    numeric = [name for name in features if is_numeric(frame[name])]
    return numeric, [name for name in features if name not in numeric]


def table_kinds(table: pa.Table, features: Sequence[str]) -> tuple[list[str], list[str]]:
    """`feature_kinds` of a table: one value tells the type of a column, and of one without any, Arrow's type does.

    Raises:
        ValueError: as `feature_kinds` does.
    """
    present = [name for name in features if name in table.column_names]
    return feature_kinds(pd.DataFrame({name: table[name].drop_null().slice(0, 1).to_pandas() for name in present}), features)


def prepare_features(rows: pd.DataFrame | pa.Table, numeric: Sequence[str], categorical: Sequence[str]) -> pd.DataFrame:
    """The rows as a model sees them, the same in training and scoring whatever the types they came with.

    Numeric columns become float64 with NaN for missing and infinite values, in one C-ordered block (the order of
    memory decides the last bits of a sum, and those decide the bytes of a model); the categorical ones become str.

    Args:
        rows: at least the named columns, any number of rows; not changed.
        numeric: names of the numeric columns.
        categorical: names of the categorical columns.

    Returns:
        The numeric, then the categorical columns, with the index of a frame.

    Raises:
        ValueError: for a column that is absent, or holds text where numbers belong.
    """
    names, index = (rows.column_names, None) if isinstance(rows, pa.Table) else (rows.columns, rows.index)
    absent = [name for name in (*numeric, *categorical) if name not in names]
    if absent:
        raise ValueError(f"features {absent} are not columns of the rows, which have {list(names)}")
    values = np.empty((len(rows), len(numeric)), dtype=np.float64)
    for position, name in enumerate(numeric):
        values[:, position] = _as_numbers(rows[name], name)
    values[~np.isfinite(values)] = np.nan
    prepared = pd.DataFrame(values, columns=_name_columns(tuple(numeric)), index=index)
    text = {name: _as_series(rows[name]).astype("str") for name in categorical}
    return pd.concat([prepared, pd.DataFrame(text, index=prepared.index)], axis=1) if text else prepared


@lru_cache(maxsize=128)
def _name_columns(names: tuple[str, ...]) -> pd.Index:
    """Names as an index, kept: to make one takes longer than to prepare a few rows."""
    return pd.Index(names)


def numeric_values(values: pd.Series) -> np.ndarray:
    """One column as float64, NaN for what is missing or infinite.

    Raises:
        ValueError: when it holds text.
    """
    numbers = np.array(_as_numbers(values, values.name))
    numbers[~np.isfinite(numbers)] = np.nan
    return numbers


def _as_numbers(values: pd.Series | pa.ChunkedArray, name: Hashable) -> np.ndarray:
    # Most columns are what they should be: to look for other kinds of missing values is most of the work.
    if isinstance(values, pa.ChunkedArray):
        if pa.types.is_floating(values.type) or pa.types.is_integer(values.type):
            numbers: np.ndarray = values.to_numpy()
            return numbers
        values = values.to_pandas()
    try:
        return values.to_numpy() if values.dtype == np.float64 else values.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise ValueError(f"column {name!r} should be numeric and holds something else: {error}") from error


def _as_series(values: pd.Series | pa.ChunkedArray) -> pd.Series:
    return values.to_pandas() if isinstance(values, pa.ChunkedArray) else values


def sample_places(keys: np.ndarray, size: int) -> np.ndarray:
    """Places of at most `size` of the keys, the same keys wherever they occur: those with the smallest hashes."""
    hashes = pd.util.hash_array(np.asarray(keys, dtype=object), categorize=False)
    return np.sort(np.argsort(hashes, kind="stable")[:size])


def hash_columns(frame: pd.DataFrame, features: Sequence[str]) -> np.ndarray:
    """A hash of every value as a model would see it, int64 of shape (n, features): whatever the dtypes it came with.

    A number is hashed as float64 (missing and infinite alike, both zeros alike), text as text.
    """
    hashes = np.empty((len(frame), len(features)), dtype=np.int64)
    for position, name in enumerate(features):
        if is_numeric(frame[name]):
            values: np.ndarray = numeric_values(frame[name]) + 0.0
        else:
            values = frame[name].astype(object).where(frame[name].notna(), None).to_numpy()
        hashes[:, position] = pd.util.hash_array(values, categorize=False).view(np.int64)
    return hashes
