"""Current rows counted into the cells of their references: all segments and features in one sweep of DuckDB.

The reference's rows are not read at all, only what `ops/drift_references` keeps of them; the current values are held for
so many features at once that memory stays bounded. `core/drift/counting.py` counts them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from factory_assets.core.drift.counting import PLACE, count_numbers, count_texts
from factory_assets.core.drift.measures import Comparison
from factory_assets.storage.delta.lake import Lake, PinnedTable
from factory_assets.storage.sql import quote_identifier
from factory_assets.storage.tables.drift_references import (
    DRIFT_REFERENCES,
    Serving,
    pack_columns,
    read_serving,
    to_served,
)

# Of 8 bytes each, held while they are counted.
_MOST_VALUES = 16_000_000
_NUMERIC_TYPES = ("byte", "short", "integer", "long", "float", "double", "boolean", "decimal")


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
    served, segments = to_served(ordered), [entry.segment for entry in ordered]
    numeric = [name for name, kind in window.columns.items() if kind.startswith(_NUMERIC_TYPES)]
    text = [name for name in window.columns if name not in numeric]
    found = []
    for names in _batches(numeric, table_rows(window)):
        values = lake.query(_values_sql(window.sql, names), window.parameters, **window.tables, serving=served)
        found.append(count_numbers(read_serving(references, line, served, names), values, segments))
    if text:
        tables = {**window.tables, "reference_rows": references, "serving": served}
        counted = lake.query(_text_sql(window.sql, text), [line, text, *window.parameters], **tables)
        found.append(count_texts(pack_columns(counted)))
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


def _values_sql(window_sql: str, names: Sequence[str]) -> str:
    """The values of the segments that are served, a column each, beside the place of the row's segment among them."""
    columns = ", ".join(f"w.{quoted}::double as {quoted}" for quoted in map(quote_identifier, names))
    return f'select serving.place as "{PLACE}", {columns} from ({window_sql}) as w join serving using (segment)'


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
