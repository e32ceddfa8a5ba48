"""Segment keys: one text for the values of a line's `segment_by` columns, and where each segment's rows lie.

A key is read by people and by machines: it is a Dagster partition key, a part of an MLflow model's name, a tag, and a
column of every table about models. So it holds only letters and digits of any script, `-`, `_`, a `.` inside a word,
`~` between the values, and `%` for all else. Keys of different levels of a hierarchy never meet, because each level
has fewer columns than the one below it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import numpy as np
import pyarrow as pa

from factory_assets.contracts.segments import ALL

_SEPARATOR = "~"
# No escaped value looks like these: after a percent sign it always has two hexadecimal digits.
_NULL = "%null"
_EMPTY = "%empty"
_ESCAPED_ALL = "%61ll"


@dataclass(frozen=True)
class Node:
    """One segment, or one of its parents, as a run of neighbouring rows of a table that was laid out.

    `level` is 0 for a segment and grows towards the root; `parent` is None for the root alone.
    """

    segment: str
    level: int
    start: int
    length: int
    parent: str | None


def segment_key(values: Sequence[str | None]) -> str:
    """The key of a segment; no values name the root, `all`.

    >>> segment_key(["UA", "1545", "EWR", "IAH"]), segment_key(["a/b", "", None]), segment_key([])
    ('UA~1545~EWR~IAH', 'a%2Fb~%empty~%null', 'all')
    """
    key = _SEPARATOR.join(map(_escape, values))
    if not values:
        return ALL
    return _ESCAPED_ALL if key == ALL else key


def segment_values(key: str) -> tuple[str | None, ...]:
    """The values that `segment_key` made `key` of.

    >>> segment_values("a%2Fb~%empty~%null"), segment_values("all")
    (('a/b', '', None), ())
    """
    if key == ALL:
        return ()
    return tuple(None if part == _NULL else "" if part == _EMPTY else unquote(part) for part in key.split(_SEPARATOR))


def ancestors(segment: str, levels: Sequence[Sequence[str]]) -> list[str]:
    """The keys of a segment's parents, the nearest first and the root last.

    >>> ancestors("UA~EWR~IAH", [["carrier", "origin", "dest"], ["carrier"], []])
    ['UA', 'all']

    Args:
        segment: a key of any level; the root has no parents.
        levels: as of `lay_out`.

    Raises:
        ValueError: for a key of no such level.
    """
    values = segment_values(segment)
    own = next((columns for columns in levels if len(columns) == len(values)), None)
    if own is None:
        raise ValueError(f"segment {segment!r} has {len(values)} values, which no level of {list(map(list, levels))} has")
    by_column = dict(zip(own, values, strict=True))
    above = [columns for columns in levels if len(columns) < len(own)]
    return [segment_key([by_column[column] for column in columns]) for columns in above]


def segment_keys(table: pa.Table, columns: Sequence[str]) -> pa.DictionaryArray:
    """The key of every row by the values of `columns`, its dictionary in the order of the keys.

    Numbers, booleans, dates and times are taken as Arrow writes them: 11 and "11" are one value.

    Raises:
        KeyError: for a column that the table does not have.
    """
    absent = [name for name in columns if name not in table.column_names]
    if absent:
        raise KeyError(f"segment_by: {absent} are not columns of the table, which has {table.column_names}")
    codes = np.zeros(table.num_rows, dtype=np.int64)
    texts: list[list[str | None]] = [[] for _ in range(min(1, table.num_rows))]
    for name in columns:
        encoded = table.column(name).combine_chunks().cast(pa.string()).dictionary_encode(null_encoding="encode")
        values = encoded.dictionary.to_pylist()
        pairs = codes * max(1, len(values)) + encoded.indices.to_numpy(zero_copy_only=False)
        distinct, codes = np.unique(pairs, return_inverse=True)
        texts = [[*texts[pair // len(values)], values[pair % len(values)]] for pair in distinct.tolist()]
    keys = [segment_key(values) for values in texts]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
    ranks = np.empty(len(keys), dtype=np.int32)
    ranks[order] = np.arange(len(keys), dtype=np.int32)
    dictionary = pa.array([keys[position] for position in order], pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(ranks[codes], pa.int32()), dictionary)


def lay_out(table: pa.Table, levels: Sequence[Sequence[str]]) -> tuple[pa.Table, tuple[Node, ...]]:
    """Sorts rows so that those of every node at every level are neighbours; within a segment the order stays.

    Args:
        table: the rows.
        levels: columns of each level from the segments to the root, each among those of the level before; the last is
            empty.

    Returns:
        The sorted table and its nodes, from the root down, each level in the order of its keys.
    """
    order, nodes = find_layout(table, levels)
    return (table if order is None else table.take(pa.array(order))), nodes


def find_layout(table: pa.Table, levels: Sequence[Sequence[str]]) -> tuple[np.ndarray | None, tuple[Node, ...]]:
    """The order that `lay_out` brings the rows into, None when they are in it, and the nodes of the rows in that order."""
    keys = [segment_keys(table, columns) for columns in levels]
    codes = [key.indices.to_numpy(zero_copy_only=False) for key in keys]
    order = None
    if len(levels) > 1:
        order = np.lexsort(codes)
        codes = [code[order] for code in codes]
        order = None if np.array_equal(order, np.arange(len(order))) else order
    nodes = []
    for level in reversed(range(len(levels))):
        starts = np.flatnonzero(np.diff(codes[level], prepend=-1))
        ends = [*starts[1:].tolist(), table.num_rows]
        for start, end in zip(starts.tolist(), ends, strict=False):
            parent = None if level + 1 == len(levels) else _name(keys[level + 1], codes[level + 1], start)
            nodes.append(Node(_name(keys[level], codes[level], start), level, start, end - start, parent))
    return order, tuple(nodes)


def _name(keys: pa.DictionaryArray, codes: np.ndarray, row: int) -> str:
    return str(keys.dictionary[int(codes[row])].as_py())


def _escape(value: str | None) -> str:
    if value is None:
        return _NULL
    if not value:
        return _EMPTY
    return "".join(character if _is_plain(value, place) else _percent(character) for place, character in enumerate(value))


def _is_plain(value: str, place: int) -> bool:
    character = value[place]
    if character == ".":
        # Dagster forbids three dots in a partition key, and a dot at either end is easily lost in a sentence.
        return value[place - 1 : place].isalnum() and value[place + 1 : place + 2].isalnum()
    return character.isalnum() or character in "-_"


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())
