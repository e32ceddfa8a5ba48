"""Current rows counted into the cells of their references: all segments and features in one sweep of DuckDB.

The reference's rows are not read at all, only what `ops/drift_references` keeps of them; the current values are held for
so many features at once that memory stays bounded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from factory_assets.core.drift.measures import Comparison
from factory_assets.storage.delta.lake import Lake, PinnedTable
from factory_assets.storage.sql import quote_identifier
from factory_assets.storage.tables.drift_references import DRIFT_REFERENCES

# Of 8 bytes each, held while they are counted.
_MOST_VALUES = 16_000_000
# No feature has this name: names of columns hold no space.
_PLACE = "place of segment"
_NUMERIC_TYPES = ("byte", "short", "integer", "long", "float", "double", "boolean", "decimal")


class ChangedTypeError(ValueError):
    """A feature that was numeric is text now: a broken contract, which is not drift."""


@dataclass(frozen=True)
class Serving:
    """Which reference the rows of a segment are compared with: that of `model_segment` at `version`."""

    segment: str
    model_segment: str
    version: int


@dataclass(frozen=True)
class Window:
    """Current rows as a query over pinned tables, with a column `segment` and one for each feature."""

    sql: str
    parameters: Sequence[Any]
    tables: Mapping[str, PinnedTable | pa.Table]
    columns: Mapping[str, str]

    @classmethod
    def of_table(
        cls, table: PinnedTable, features: Mapping[str, str], as_of: str, span: tuple[Any, Any], segment_sql: str = "'all'"
    ) -> "Window":
        """Rows of one pinned table with span[0] <= as_of < span[1].

        Args:
            table: the table.
            features: the name of each feature and the column that holds it.
            as_of: the timestamp column.
            span: its first moment, and the one after its last.
            segment_sql: the segment key, as an expression over the table's columns.
        """
        names = ", ".join(f"{quote_identifier(column)} as {quote_identifier(name)}" for name, column in features.items())
        moment = quote_identifier(as_of)
        sql = f"select {segment_sql} as segment, {names} from current_rows where {moment} >= ? and {moment} < ?"
        types = {field.name: str(getattr(field.type, "type", field.type)) for field in table.handle.schema().fields}
        return cls(sql, list(span), {"current_rows": table}, {name: types[column] for name, column in features.items()})


def compare_window(lake: Lake, line: str, window: Window, serving: Sequence[Serving]) -> list[Comparison]:
    """Counts the window's rows into the cells of the references that serve them, in order of segment and feature.

    A reference that no current row belongs to is compared with no rows; a feature without a reference is left out.

    Returns:
        A comparison for numbers and one for text, each only when there is any.

    Raises:
        ChangedTypeError: for text where the reference holds numbers.
    """
    references = lake.find(DRIFT_REFERENCES.name)
    if references is None or not serving:
        return []
    ordered = sorted(serving, key=lambda entry: entry.segment)
    served = pa.table(
        {
            "place": pa.array(range(len(ordered)), pa.int32()),
            "segment": [entry.segment for entry in ordered],
            "model_segment": [entry.model_segment for entry in ordered],
            "version": pa.array([entry.version for entry in ordered], pa.int64()),
        }
    )
    tables = {**window.tables, "reference_rows": references, "serving": served}
    numeric = [name for name, kind in window.columns.items() if kind.startswith(_NUMERIC_TYPES)]
    text = [name for name in window.columns if name not in numeric]
    found = []
    for names in _batches(numeric, table_rows(window)):
        kept = lake.query(_KEPT_NUMBERS_SQL, [line, names], reference_rows=references, serving=served)
        values = lake.query(_values_sql(window.sql, names), window.parameters, **window.tables, serving=served)
        found.append(_read_numbers(_in_order(kept), values, [entry.segment for entry in ordered]))
    if text:
        found.append(_read_text(lake.query(_text_sql(window.sql, text), [line, text, *window.parameters], **tables)))
    return [comparison for comparison in found if len(comparison.features)]


def read_share(
    lake: Lake,
    table: PinnedTable,
    features: Sequence[str],
    as_of: str,
    key: Sequence[str],
    span: tuple[Any, Any],
    share: float,
) -> pa.Table:
    """A share of the rows with span[0] <= as_of < span[1], by a hash of their key: the same rows at every look.

    Returns:
        The features, and `day`, the number of each row's UTC day; in order of the key.
    """
    moment, names = quote_identifier(as_of), ", ".join(map(quote_identifier, features))
    keys = ", ".join(map(quote_identifier, key))
    sql = (
        f"select {names}, date_diff('day', timestamptz '1970-01-01', {moment})::bigint as day from t "
        f"where {moment} >= ? and {moment} < ? and hash({keys}) % 1000000 < ? order by {keys}"
    )
    return lake.query(sql, [*span, round(share * 1_000_000)], t=table)


def table_rows(window: Window) -> int:
    """The most rows that the window can have, by the commit log."""
    return max((table.row_count for table in window.tables.values() if isinstance(table, PinnedTable)), default=0)


def _batches(names: list[str], rows: int) -> list[list[str]]:
    """So many features at once that their values stay within a bound of memory; one at a time at the least."""
    size = max(1, _MOST_VALUES // max(rows, 1))
    return [names[start : start + size] for start in range(0, len(names), size)]


_KEPT_SQL = """
kept as (
    select serving.segment, feature, edges, categories, counts, spread, discrete, design_effect
    from reference_rows as r
    join serving on r.segment = serving.model_segment and r.version = serving.version
    where line = ? and list_contains(?, feature)
)"""


# Without an order: carrying lists through a sort costs more than all else, and the files are nearly in order.
_KEPT_NUMBERS_SQL = """
select place, feature, edges, counts, spread, discrete, design_effect
from reference_rows as r
join serving on r.segment = serving.model_segment and r.version = serving.version
where line = ? and list_contains(?, feature)"""


def _values_sql(window_sql: str, names: Sequence[str]) -> str:
    """The values of the segments that are served, a column each, beside the place of the row's segment among them."""
    columns = ", ".join(f"w.{quoted}::double as {quoted}" for quoted in map(quote_identifier, names))
    return f'select serving.place as "{_PLACE}", {columns} from ({window_sql}) as w join serving using (segment)'


def _text_sql(window_sql: str, names: Sequence[str]) -> str:
    quoted = [quote_identifier(name) for name in names]
    texts = ", ".join(f"{name}::varchar as {name}" for name in quoted)
    return f"""
with {_KEPT_SQL},
long as (
    select *
    from (select segment, {texts} from ({window_sql}))
    unpivot include nulls (value for feature in ({", ".join(quoted)}))
), {_TEXT_SQL}"""


_TEXT_SQL = """
valued as (select segment, feature, value, count(*) as rows from long group by all),
placed as (
    select
        segment, feature, sum(rows) as rows,
        case when value is null then len(categories) + 2
             else coalesce(nullif(list_position(categories, value), 0), len(categories) + 1) end as cell
    from valued join kept using (segment, feature)
    group by all
),
counted as (select segment, feature, list(cell) as cells, list(rows) as rows from placed group by all)
select kept.*, counted.cells, counted.rows
from kept left join counted using (segment, feature)
order by segment, feature"""


def _in_order(kept: pa.Table) -> pa.Table:
    """The references by segment and feature."""
    place, (feature, names) = kept["place"].to_numpy(), _codes(kept["feature"])
    position = place * np.int64(len(names)) + np.argsort(np.argsort(names))[feature]
    return kept if (position[1:] > position[:-1]).all() else kept.take(np.argsort(position))


def _codes(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Of each text its number, and the texts by their numbers."""
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy(), np.array(encoded.dictionary.to_pylist(), dtype=object)


def _read_numbers(kept: pa.Table, values: pa.Table, segments: Sequence[str]) -> Comparison:
    """Counts the values into the cells of the references, a feature at a time: what is looked up stays in the cache."""
    flat, sizes = _flatten(kept["edges"])
    groups, widest = len(sizes), max(int(sizes.max(initial=0)), 1)
    # Padded to one less than a power of two, so that a search needs no bounds.
    edges = _pad(flat, sizes, (1 << widest.bit_length()) - 1, np.inf)
    feature_of, features = _codes(kept["feature"])
    place_of, place = kept["place"].to_numpy(), values[_PLACE].to_numpy()
    current = np.zeros((groups, widest + 2), dtype=np.int64)
    below, above = np.zeros(groups), np.zeros(groups)
    last = edges[np.arange(groups), np.maximum(sizes - 1, 0)]
    for code, name in enumerate(features):
        mine = np.flatnonzero(feature_of == code)
        rows = np.full(len(segments), -1, dtype=np.intp)
        rows[place_of[mine]] = mine
        numbers, group = values[name].to_numpy(), rows[place]
        if len(mine) < len(segments):
            numbers, group = numbers[group >= 0], group[group >= 0]
        cells = _search(edges, group, numbers)
        # Cells of a group end where its edges do; the one above, and the missing, stand at the end of the padded row.
        cells[cells >= sizes[group]] = widest
        cells[~np.isfinite(numbers)] = widest + 1
        local = np.searchsorted(mine, group) if len(mine) < len(segments) else place_of[group]
        counted = np.bincount(local * np.intp(widest + 2) + cells, minlength=len(mine) * (widest + 2))
        current[mine] = counted.reshape(len(mine), widest + 2)
        lowest, highest = np.flatnonzero(cells == 0), np.flatnonzero(cells == widest)
        gap = np.maximum(edges[group[lowest], 0] - numbers[lowest], 0.0)
        below[mine] = np.bincount(local[lowest], gap, minlength=len(mine))
        gap = np.maximum(numbers[highest] - last[group[highest]], 0.0)
        above[mine] = np.bincount(local[highest], gap, minlength=len(mine))
    edges = edges[:, :widest]
    edges = np.where(np.isinf(edges), last[:, None], edges)
    edges[sizes == 0] = 0.0
    served = np.array(segments, dtype=object)[place_of]
    return _comparison(kept, served, features[feature_of], current, edges, below, above, sizes)


def _search(edges: np.ndarray, group: np.ndarray, values: np.ndarray) -> np.ndarray:
    """How many edges of its group lie below each value, by halving; a row of `edges` has one less than a power of two."""
    width, flat = edges.shape[1], edges.ravel()
    base = group * np.intp(width) - 1
    place = base.copy()
    step = (width + 1) // 2
    while step:
        place += (flat[place + step] < values) * np.intp(step)
        step //= 2
    return np.asarray(place - base)


def _read_text(found: pa.Table) -> Comparison:
    sizes = np.array([len(entry) for entry in found["categories"].to_pylist()], dtype=np.int64)
    groups, width = len(sizes), max(int(sizes.max(initial=0)), 1)
    cells, filled = _flatten(found["cells"])
    rows, _ = _flatten(found["rows"])
    group, _ = _places(filled)
    cells = cells.astype(np.int64)
    current = np.zeros((groups, width + 2), dtype=np.int64)
    beyond = cells - 1 - sizes[group]  # 0 is in no category, 1 is missing
    current[group, np.where(beyond < 0, cells - 1, width + beyond)] = rows
    nothing = np.zeros(groups)
    segments, features = (np.array(found[name].to_pylist(), dtype=object) for name in ("segment", "feature"))
    return _comparison(found, segments, features, current, np.zeros((groups, 0)), nothing, nothing, sizes)


def _comparison(
    found: pa.Table,
    segments: np.ndarray,
    features: np.ndarray,
    current: np.ndarray,
    edges: np.ndarray,
    below: np.ndarray,
    above: np.ndarray,
    sizes: np.ndarray,
) -> Comparison:
    counts, filled = _flatten(found["counts"])
    wrong = sorted(set(features[filled != sizes + 2]))
    if wrong:
        raise ChangedTypeError(
            f"features {', '.join(wrong)} are numbers on one side and text on the other: a broken contract, which is not "
            "drift. Mend the dbt model, or retrain the line on the new type."
        )
    # Of a row with fewer cells than the widest, the last two stand at the end as well.
    reference = _pad(counts, filled, current.shape[1], 0)
    short = np.flatnonzero(filled < current.shape[1])
    ends = reference[short[:, None], filled[short, None] - [2, 1]]
    reference[short[:, None], filled[short, None] - [2, 1]] = 0
    reference[short, -2:] = ends
    return Comparison(
        segments,
        features,
        reference,
        current,
        edges,
        below,
        above,
        _numbers(found["spread"], float),
        found["discrete"].to_numpy().astype(bool),
        _numbers(found["design_effect"], float),
        _as_tuples(found["categories"]) if "categories" in found.column_names else _nothing(len(features)),
    )


def _nothing(count: int) -> np.ndarray:
    names = np.empty(count, dtype=object)
    names.fill(())
    return names


def _pad(flat: np.ndarray, sizes: np.ndarray, width: int, fill: float) -> np.ndarray:
    """Lists of these sizes, one after another, as rows of equal width."""
    rows = np.full((len(sizes), width), fill, dtype=flat.dtype)
    size = int(sizes.max(initial=0))
    if len(sizes) and size == sizes.min():
        rows[:, :size] = flat.reshape(len(sizes), size)
    else:
        rows[_places(sizes)] = flat
    return rows


def _as_tuples(column: pa.ChunkedArray) -> np.ndarray:
    names = np.empty(len(column), dtype=object)
    names[:] = [tuple(entry) for entry in column.to_pylist()]
    return names


def _flatten(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """The values of a list column one after another (missing ones as nan), and how many each row has."""
    lists = column.combine_chunks()
    return lists.flatten().to_numpy(zero_copy_only=False), np.asarray(lists.value_lengths().fill_null(0))


def _places(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of flattened lists: which row each value belongs to, and where it stood in its list."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    starts = np.cumsum(sizes) - sizes
    return group, np.arange(len(group)) - starts[group]


def _numbers(column: pa.ChunkedArray, kind: type = int) -> np.ndarray:
    return np.asarray(column.combine_chunks().fill_null(0).to_numpy(zero_copy_only=False).astype(kind))
