"""A hash of what a frame says, not of how pandas holds it."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

# Up to here every whole number is a float64, so whether nulls made a column float does not matter.
_EXACT_INTEGERS = 2**53


def fingerprint_frame(frame: pd.DataFrame, sort_by: Sequence[str]) -> str:
    """SHA-256 of the content: column names, values and nulls.

    Equal for the same rows in another order, columns in another order, another index, and other dtypes that hold the
    same values (numpy, nullable, Arrow, category; whole numbers as int or float; naive times and the same in UTC). A
    null differs from an empty string and from zero; NaN and None are both null.

    Args:
        frame: columns of numbers, booleans, text, dates and times (to the microsecond).
        sort_by: the columns that name a row. Rows that share a key are ordered by the other columns.

    Returns:
        64 hexadecimal digits.

    Raises:
        KeyError: for an absent column in `sort_by`.
        TypeError: for a column of another kind, or of mixed kinds.
    """
    absent = [name for name in sort_by if name not in frame.columns]
    if absent:
        raise KeyError(f"sort_by columns {absent} are not in the frame")
    names = sorted(str(name) for name in frame.columns)
    columns = {name: _canonical(frame[name]) for name in names}
    order = _row_order(columns, [*sort_by, *(name for name in names if name not in sort_by)])
    hasher = hashlib.sha256(f"{len(frame)} rows".encode())
    for name, column in columns.items():
        _update(hasher, name, column.take(order))
    return hasher.hexdigest()


def _row_order(columns: dict[str, pa.Array], names: Sequence[str]) -> pa.Array:
    if not names:
        return pa.array([], pa.int64())
    table = pa.table({str(position): columns[name] for position, name in enumerate(names)})
    return pc.sort_indices(table, sort_keys=[(name, "ascending") for name in table.column_names])


def _canonical(values: pd.Series) -> pa.Array:
    """One Arrow type for each kind of value: float64, int64 (beyond exact floats), bool, microseconds, text."""
    column = _as_arrow(values)
    kind = column.type
    if column.null_count == len(column):
        return pa.nulls(len(column))
    if pa.types.is_boolean(kind):
        return column
    if pa.types.is_integer(kind):
        extremes = pc.min_max(column).as_py().values()
        beyond = max(abs(extreme) for extreme in extremes) > _EXACT_INTEGERS
        return column.cast(pa.int64() if beyond else pa.float64(), safe=False)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return pc.add(column.cast(pa.float64(), safe=False), 0.0)  # -0.0 becomes 0.0
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        zone = kind.tz if pa.types.is_timestamp(kind) else None
        instants = column.cast(pa.timestamp("us", zone), safe=False)
        return instants.cast(pa.int64()).cast(pa.timestamp("us"))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.large_string())
    raise TypeError(f"column {values.name!r} of {kind} cannot be hashed: use numbers, booleans, text, dates or times")


def _as_arrow(values: pd.Series) -> pa.Array:
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        values = values.dt.tz_convert(None)  # Arrow reads Series.values, which pandas 3.1 deprecates for zoned times.
    try:
        column = pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise TypeError(f"column {values.name!r} cannot be hashed: {error}") from error
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _update(hasher: "hashlib._Hash", name: str, column: pa.Array) -> None:
    """Name, type and nulls, then lengths and bytes, so that no two columns run into each other."""
    hasher.update(f"\0{len(name)}:{name}:{column.type}".encode())
    if pa.types.is_null(column.type):
        return
    hasher.update(np.packbits(column.is_valid().to_numpy(zero_copy_only=False)).tobytes())
    if pa.types.is_large_string(column.type):
        filled = pc.fill_null(column, "")
        _, offsets, characters = filled.buffers()
        ends = np.frombuffer(offsets, dtype="<i8")[filled.offset : filled.offset + len(filled) + 1]
        hasher.update(np.diff(ends).tobytes())
        hasher.update(memoryview(characters or b"")[ends[0] : ends[-1]])
        return
    if pa.types.is_boolean(column.type):
        hasher.update(np.packbits(pc.fill_null(column, False).to_numpy(zero_copy_only=False)).tobytes())
        return
    numbers = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
    hasher.update(pc.fill_null(numbers, 0).to_numpy().tobytes())
