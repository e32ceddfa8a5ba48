"""The one writer of `ops/batch_profiles`: what each day of a source looked like, column by column, from one DuckDB pass.

A pass reads the temporary table `judged` that the ingestion makes, so the raw files are parsed once. Of rows with equal keys
the one that would be published counts. Hashes are DuckDB's own: after an upgrade that changes them, frozen feeds and swapped
text columns are not found until the history is of the new version.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import duckdb
import pyarrow as pa

from factory_assets.contracts.incidents import QUANTILES, BatchProfile, ColumnProfile
from factory_assets.contracts.source import PARTITION_COLUMN, SourceSpec
from factory_assets.storage.delta.lake import Lake, TableSpec
from factory_assets.storage.sql import equals_any, literal, quote_identifier

WHOLE_BATCH = "*"
_COLUMN_SKETCH = 48
_ROW_SKETCH = 128
_MOST_PATTERNS = 40
# 24 numeric columns are 276 pairs; beyond that the pairs, and not the rows, would be the cost.
_MOST_ORDERED = 24

BATCH_PROFILES = TableSpec(
    name="ops/batch_profiles",
    schema=pa.schema(
        [
            ("source", pa.string()),
            (PARTITION_COLUMN, pa.date32()),
            ("column", pa.string()),
            ("published", pa.bool_()),
            ("rows", pa.int64()),
            ("nulls", pa.int64()),
            ("misfits", pa.int64()),
            ("distinct", pa.int64()),
            ("mode", pa.float64()),
            ("mode_share", pa.float64()),
            ("longest_run", pa.int64()),
            ("quantiles", pa.list_(pa.float64())),
            ("mean", pa.float64()),
            ("minimum", pa.float64()),
            ("maximum", pa.float64()),
            ("content", pa.string()),
            ("sketch", pa.list_(pa.int64())),
            ("details", pa.string()),
        ]
    ),
    keys=("source", PARTITION_COLUMN, "column"),
    partition_by=("source",),
)


@dataclass(frozen=True)
class BatchProfiles:
    """The profiles of one source. Only published days are history; a held day's stay as evidence until it is mended."""

    lake: Lake
    source: str

    def read_published(self, first: date, last: date) -> list[BatchProfile]:
        """Published batches of first <= day <= last, oldest first."""
        where = f"source = ? and published and {PARTITION_COLUMN} between ? and ?"
        days: dict[date, list[dict[str, Any]]] = {}
        for row in self.lake.rows(BATCH_PROFILES, where, [self.source, first, last]):
            days.setdefault(row[PARTITION_COLUMN], []).append(row)
        return [_from_rows(self.source, day, rows) for day, rows in sorted(days.items())]

    def rows_by_day(self, most: int) -> list[tuple[date, int]]:
        """Rows of the newest batches, held ones among them, the newest first."""
        profiles = self.lake.find(BATCH_PROFILES.name)
        if profiles is None:
            return []
        found = self.lake.query(
            f'select {PARTITION_COLUMN} as day, rows from t where source = ? and "column" = ? order by day desc limit ?',
            [self.source, WHOLE_BATCH, most],
            t=profiles,
        )
        return [(row["day"], row["rows"]) for row in found.to_pylist()]

    def write(self, profiles: Sequence[BatchProfile], published: Iterable[date]) -> None:
        """Replaces the profiles of these days."""
        if not profiles:
            return
        shown = set(published)
        rows = [row for profile in profiles for row in _to_rows(profile, profile.day in shown)]
        days = equals_any(PARTITION_COLUMN, [profile.day for profile in profiles])
        table = pa.Table.from_pylist(rows, schema=BATCH_PROFILES.schema)
        self.lake.replace(BATCH_PROFILES, table, f"source = {literal(self.source)} and ({days})")


def profile_batches(
    connection: duckdb.DuckDBPyConnection, spec: SourceSpec, timezone: str, undated: date
) -> list[BatchProfile]:
    """Profiles of all days in the table `judged`, oldest first; `undated` stands for the day of a source without days."""
    day = PARTITION_COLUMN if spec.partitions else f"{literal(undated)}"
    columns = list(spec.columns)
    keys = ", ".join(map(quote_identifier, spec.keys))
    listed = ", ".join(map(quote_identifier, columns))
    connection.execute(
        f"create or replace temp table batch as select {day} as batch_day, {listed}, '; ' || reason as reason from judged "
        f"qualify row_number() over (partition by batch_day, {keys} order by file desc, fingerprint) = 1"
    )
    # Three statements and not one: joined into one plan they take three times as long (11.5 s for a year of flights, 4 s).
    wide: dict[date, dict[str, Any]] = {}
    for sql in (_statistics_sql(spec, columns), _runs_sql(spec, columns), _modes_sql(spec, columns)):
        for found in connection.sql(sql).to_arrow_table().to_pylist():
            wide.setdefault(found["batch_day"], {}).update(found)
    raw = dict(
        connection.execute(f"select {day} as d, count(*) - count(distinct fingerprint) from judged group by d").fetchall()
    )
    patterns = connection.execute(_patterns_sql(columns)).fetchall()
    hours = connection.execute(_hours_sql(spec), [timezone, timezone]).fetchall() if spec.event_time else []
    sketches = _row_sketches(connection, spec, list(wide.values()), columns)
    profiles = []
    for of_day, row in sorted(wide.items()):
        counted = {hour: count for found, hour, _, count in hours if found == of_day}
        profiles.append(
            BatchProfile(
                source=spec.name,
                day=of_day,
                rows=row["rows"],
                duplicates=raw.get(of_day, 0),
                columns=tuple(_column_profile(row, name, i) for i, name in enumerate(columns)),
                null_patterns={p: n for found, p, n in patterns if found == of_day},
                orders={key: row[alias] for alias, key in _orders(spec) if row[alias] is not None},
                hours=tuple(counted.get(hour, 0) for hour in range(24)) if spec.event_time else (),
                outside=sum(outside for found, _, outside, _ in hours if found == of_day) if spec.partitions else 0,
                row_sketch=sketches.get(of_day, ()),
                contract_breaches=row["breaches"],
            )
        )
    return profiles


def _is_number(spec: SourceSpec, column: str) -> bool:
    return spec.columns[column].type in ("bigint", "double")


def _orders(spec: SourceSpec) -> list[tuple[str, str]]:
    """Alias and key of each pair of numeric columns."""
    numbers = [name for name in spec.columns if _is_number(spec, name)][:_MOST_ORDERED]
    return [(f"o{i}_{j}", f"{a}<{b}") for i, a in enumerate(numbers) for j, b in enumerate(numbers) if i < j]


def _statistics_sql(spec: SourceSpec, columns: Sequence[str]) -> str:
    aggregates = [part for i, name in enumerate(columns) for part in _aggregates(spec, name, i)]
    for alias, key in _orders(spec):
        a, b = map(quote_identifier, key.split("<"))
        aggregates.append(f"avg(({a} < {b})::int) filter ({a} is not null and {b} is not null) as {alias}")
    return (
        f"select batch_day, count(*) as rows, count(*) filter (reason <> '; ') as breaches, {', '.join(aggregates)} "
        "from batch group by batch_day"
    )


def _runs_sql(spec: SourceSpec, columns: Sequence[str]) -> str:
    """Longest runs: one ordered window for all columns."""
    entity = [key for key in spec.keys if key != spec.event_time]
    order = ", ".join(map(quote_identifier, [*entity, *([spec.event_time] if spec.event_time else [])]))
    names = [quote_identifier(name) for name in columns]
    changed = ", ".join(f"{c} is distinct from lag({c}) over w as ch{i}" for i, c in enumerate(names))
    since = "over (partition by batch_day order by rn rows unbounded preceding)"
    runs = ", ".join(
        f"case when {c} is not null then rn - max(case when ch{i} then rn end) {since} + 1 else 0 end as run{i}"
        for i, c in enumerate(names)
    )
    longest = ", ".join(f"max(run{i}) as run{i}" for i in range(len(names)))
    return (
        f"with ordered as (select *, row_number() over w as rn, {changed} from batch "
        f"window w as (partition by batch_day order by {order})), measured as (select batch_day, {runs} from ordered) "
        f"select batch_day, {longest} from measured group by batch_day"
    )


def _modes_sql(spec: SourceSpec, columns: Sequence[str]) -> str:
    names = [quote_identifier(name) for name in columns]
    # Ordered, for of two values that are equally common any one would be taken.
    modes = ", ".join(f"mode({c} order by {c}) as m{i}" for i, c in enumerate(names))
    shares = ", ".join(f"count(*) filter ({c} = m{i}) / count(*) as mode{i}" for i, c in enumerate(names))
    values = [f"any_value(m{i})::double as m{i}" for i, name in enumerate(columns) if _is_number(spec, name)]
    return (
        f"with modes as (select batch_day, {modes} from batch group by batch_day) "
        f"select batch_day, {', '.join([*values, shares])} from batch join modes using (batch_day) group by batch_day"
    )


def _aggregates(spec: SourceSpec, name: str, i: int) -> list[str]:
    c, label = quote_identifier(name), literal(f"; {name}: ")
    unfit = f"{c} is null and contains(reason, {label}) and not contains(reason, {literal(f'; {name}: is missing')})"
    parts = [
        f"count(*) filter ({c} is null) as nulls{i}",
        f"count(*) filter ({unfit}) as misfits{i}",
        f"approx_count_distinct({c}) as distinct{i}",
        f"sum(hash({c})::hugeint) filter ({c} is not null)::varchar as content{i}",
        f"min(distinct (hash({c}) >> 1)::bigint, {_COLUMN_SKETCH}) filter ({c} is not null) as sketch{i}",
    ]
    if _is_number(spec, name):
        asked = ", ".join(str(q) for q in QUANTILES)
        real = f"filter (isfinite({c}::double))"
        parts += [
            f"quantile_cont({c}::double, [{asked}]) {real} as q{i}",
            f"avg({c}::double) {real} as mean{i}",
            f"min({c}::double) {real} as min{i}",
            f"max({c}::double) {real} as max{i}",
        ]
    return parts


def _patterns_sql(columns: Sequence[str]) -> str:
    rank = "row_number() over (partition by batch_day order by n desc, pattern)"
    flags = ", ".join(f"case when {quote_identifier(c)} is null then {literal(c)} end" for c in columns)
    return (
        f"select batch_day, concat_ws(',', {flags}) as pattern, count(*) as n from batch group by batch_day, pattern "
        f"having pattern <> '' qualify {rank} <= {_MOST_PATTERNS}"
    )


def _hours_sql(spec: SourceSpec) -> str:
    event = quote_identifier(spec.event_time or "")
    return (
        f"select batch_day, hour(timezone(?, {event})) as h, "
        f"count(*) filter (timezone(?, {event})::date <> batch_day), count(*) "
        f"from batch where {event} is not null group by all"
    )


def _row_sketches(
    connection: duckdb.DuckDBPyConnection, spec: SourceSpec, wide: Sequence[dict[str, Any]], columns: Sequence[str]
) -> dict[date, tuple[int, ...]]:
    """Whole rows without time columns and without what is the same in all rows of the day, such as its date in parts."""
    alike: dict[tuple[str, ...], list[date]] = {}
    for row in wide:
        kept = tuple(
            quote_identifier(name)
            for i, name in enumerate(columns)
            if spec.columns[name].type not in ("timestamp", "date") and row[f"mode{i}"] < 1
        )
        alike.setdefault(kept, []).append(row["batch_day"])
    sketches: dict[date, tuple[int, ...]] = {}
    for kept, days in alike.items():
        if kept:
            sql = (
                f"select batch_day, min(distinct (hash({', '.join(kept)}) >> 1)::bigint, {_ROW_SKETCH}) from batch "
                f"where {equals_any('batch_day', days)} group by batch_day"
            )
            sketches |= {day: tuple(sketch) for day, sketch in connection.execute(sql).fetchall()}
    return sketches


def _column_profile(row: dict[str, Any], name: str, i: int) -> ColumnProfile:
    return ColumnProfile(
        column=name,
        rows=row["rows"],
        nulls=row[f"nulls{i}"],
        misfits=row[f"misfits{i}"],
        distinct=row[f"distinct{i}"],
        mode=row.get(f"m{i}"),
        mode_share=row[f"mode{i}"] or 0.0,
        longest_run=row[f"run{i}"] or 0,
        quantiles=tuple(row.get(f"q{i}") or ()),
        mean=row.get(f"mean{i}"),
        minimum=row.get(f"min{i}"),
        maximum=row.get(f"max{i}"),
        content=row[f"content{i}"] or "",
        sketch=tuple(row[f"sketch{i}"] or ()),
    )


def _to_rows(profile: BatchProfile, published: bool) -> list[dict[str, Any]]:
    whole = {"source": profile.source, PARTITION_COLUMN: profile.day, "published": published}
    details = {
        "duplicates": profile.duplicates,
        "null_patterns": profile.null_patterns,
        "orders": profile.orders,
        "hours": profile.hours,
        "outside": profile.outside,
        "contract_breaches": profile.contract_breaches,
    }
    batch = {
        **whole,
        "column": WHOLE_BATCH,
        "rows": profile.rows,
        "quantiles": [],
        "sketch": list(profile.row_sketch),
        "details": json.dumps(details),
    }
    return [batch, *({**whole, **asdict(column)} for column in profile.columns)]


def _from_rows(source: str, day: date, rows: Sequence[dict[str, Any]]) -> BatchProfile:
    (batch,) = (row for row in rows if row["column"] == WHOLE_BATCH)
    details = json.loads(batch["details"])
    names = ColumnProfile.__dataclass_fields__
    columns = [
        ColumnProfile(**{**{n: row[n] for n in names}, "quantiles": tuple(row["quantiles"]), "sketch": tuple(row["sketch"])})
        for row in rows
        if row["column"] != WHOLE_BATCH
    ]
    hours = tuple(details.pop("hours"))
    return BatchProfile(
        source=source,
        day=day,
        rows=batch["rows"],
        columns=tuple(columns),
        row_sketch=tuple(batch["sketch"]),
        hours=hours,
        **details,
    )
