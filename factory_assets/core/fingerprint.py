"""A hash of what rows say, not of the types that hold them."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Up to here every whole number is a float64, so whether nulls made a column float does not matter.
_EXACT_INTEGERS = 2**53
_SLICE_ROWS = 65_536


def fingerprint_runs(table: pa.Table, runs: Sequence[tuple[int, int]]) -> list[str]:
    """SHA-256 of the content of runs of rows: column names, values, nulls, and the order of the rows.

    Equal for columns in another order and for types that hold the same values (whole numbers as int or float, text plain
    or by dictionary, naive times and the same in UTC, in any unit from the microsecond up). A null differs from an empty
    string and from zero. Thousands of runs cost little more than their bytes, and only a slice of the rows is turned into
    those bytes at a time.

    Args:
        table: columns of numbers, booleans, text, dates and times.
        runs: start and length of each, within the table.

    Returns:
        64 hexadecimal digits a run.

    Raises:
        TypeError: for a column of another kind.
    """
    kinds = [(name, _canonical_type(table.column(name), name)) for name in sorted(table.column_names)]
    head = "".join(f"\0{len(name)}:{name}:{kind}" for name, kind in kinds).encode()
    found = []
    for first, count, some in _slices(runs):
        columns = [_as_type(_flat(table.column(name).slice(first, count)), kind) for name, kind in kinds]
        fixed = np.ascontiguousarray(np.hstack([np.zeros((count, 0), np.uint8), *map(_bytes, columns)]))
        texts = [_characters(column) for column in columns if pa.types.is_large_string(column.type)]
        for start, length in some:
            hasher = hashlib.sha256(f"{length} rows".encode() + head)
            hasher.update(fixed[start - first : start - first + length].data)
            for ends, characters in texts:
                hasher.update(characters[ends[start - first] : ends[start - first + length]])
            found.append(hasher.hexdigest())
    return found


def _slices(runs: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Neighbouring runs together, as first row, rows and runs: no more rows than _SLICE_ROWS beside the last run's."""
    some: list[tuple[int, int]] = []
    first, end = 0, 0
    for start, length in runs:
        if some and (start != end or end - first >= _SLICE_ROWS):
            yield first, end - first, some
            some = []
        first = start if not some else first
        end = start + length
        some.append((start, length))
    if some:
        yield first, end - first, some


def _bytes(column: pa.Array) -> np.ndarray:
    """What of a column has a fixed width, as uint8 of shape (n, ...): whether there is a value, and it or its length."""
    valid: np.ndarray = column.is_valid().to_numpy(zero_copy_only=False).astype(np.uint8).reshape(-1, 1)
    if pa.types.is_null(column.type):
        return valid
    if pa.types.is_large_string(column.type):
        column = pc.fill_null(pc.binary_length(column), 0)
    elif pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    elif pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    values = np.ascontiguousarray(pc.fill_null(column, 0).to_numpy(zero_copy_only=False))
    if not len(values):
        return valid
    both: np.ndarray = np.hstack([valid, values.view(np.uint8).reshape(len(values), -1)])
    return both


def _characters(column: pa.Array) -> tuple[np.ndarray, memoryview]:
    """Where each text of a column ends, first zero, and all texts together."""
    filled = pc.fill_null(column, "")
    _, offsets, characters = filled.buffers()
    ends = np.frombuffer(offsets, dtype="<i8")[filled.offset : filled.offset + len(filled) + 1]
    return ends, memoryview(characters or b"")


def _canonical_type(column: pa.Array | pa.ChunkedArray, name: object) -> pa.DataType:
    """One Arrow type for each kind of value: float64, int64 (beyond exact floats), bool, microseconds, text."""
    if pa.types.is_dictionary(column.type):
        column = _flat(column)
    kind = column.type
    if column.null_count == len(column):
        return pa.null()
    if pa.types.is_boolean(kind):
        return pa.bool_()
    if pa.types.is_integer(kind):
        extremes = pc.min_max(column).as_py().values()
        return pa.int64() if max(abs(extreme) for extreme in extremes) > _EXACT_INTEGERS else pa.float64()
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return pa.float64()
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return pa.timestamp("us")
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.large_string()
    raise TypeError(f"column {name!r} of {kind} cannot be hashed: use numbers, booleans, text, dates or times")


def _as_type(column: pa.Array, canonical: pa.DataType) -> pa.Array:
    """A column, or a slice of it, in its canonical type."""
    if pa.types.is_null(canonical):
        return pa.nulls(len(column))
    if pa.types.is_timestamp(canonical):
        zone = column.type.tz if pa.types.is_timestamp(column.type) else None
        instants = column.cast(pa.timestamp("us", zone), safe=False)
        return instants.cast(pa.int64()).cast(canonical)
    number = column.cast(canonical, safe=False)
    # -0.0 becomes 0.0
    return pc.add(number, 0.0) if pa.types.is_floating(canonical) else number


def _flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
