"""Whether both sides did the same work: a ratio over different work is worthless."""

import math
from pathlib import Path
from typing import Any

import duckdb
from deltalake import DeltaTable

from factory_assets.storage.delta.snapshots import select_sql

_SOURCES = ("airlines", "airports", "flights", "planes", "weather")
ROWS = [
    *(f"bronze/{name}" for name in _SOURCES),
    *(f"staging/stg_{name}" for name in _SOURCES),
    *(f"marts/{name}" for name in ("dim_plane", "fct_airport_hour", "fct_flight")),
    *(f"features/{name}" for name in ("feat_airport_hour", "feat_flight_departure")),
    *(f"training_sets/{line}" for line in ("arrival_delay", "departure_volume")),
]
SCORES = {"arrival_delay": ["flight_id"], "departure_volume": ["origin", "hour_start_utc"]}
_TOLERANCE = 1e-9


def find_differences(bare: Path, factory: Path) -> list[str]:
    """A sentence for each table in which the lakes below two folders disagree: rows, scores, and verdicts' numbers."""
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        found = []
        for table in ROWS:
            found += _compare_rows(connection, table, bare, factory)
        for line, key in SCORES.items():
            found += _compare_scores(connection, f"predictions/{line}", key, bare, factory)
        return found + _compare_verdicts(connection, bare, factory)


def find_different_metrics(bare: dict[str, Any], factory: dict[str, Any]) -> list[str]:
    """A sentence for each holdout metric, by line, in which the sides disagree."""
    return [
        f"{line}: {metric} is {bare[line][metric]} and {value}"
        for line, metrics in factory.items()
        for metric, value in metrics.items()
        if not math.isclose(bare[line][metric], value, rel_tol=_TOLERANCE)
    ]


def _show(connection: duckdb.DuckDBPyConnection, table: str, bare: Path, factory: Path) -> None:
    for side, folder in (("bare", bare), ("factory", factory)):
        query = select_sql(DeltaTable(folder / "lake" / table))
        connection.execute(f"create or replace view {side} as {query}")


def _numbers(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    return tuple(connection.execute(sql).fetchall()[0])


def _compare_rows(connection: duckdb.DuckDBPyConnection, table: str, bare: Path, factory: Path) -> list[str]:
    _show(connection, table, bare, factory)
    columns = sorted(name for (name, *_) in connection.execute("describe bare").fetchall())
    other_columns = sorted(name for (name, *_) in connection.execute("describe factory").fetchall())
    if columns != other_columns:
        return [f"{table}: columns {set(columns) ^ set(other_columns)} are on one side only"]
    listed = ", ".join(f'"{name}"' for name in columns)
    rows, other_rows, missing = _numbers(
        connection,
        "select (select count(*) from bare), (select count(*) from factory), "
        f"(select count(*) from (select {listed} from bare except all select {listed} from factory))",
    )
    return _differ(table, rows, other_rows, missing)


def _compare_scores(
    connection: duckdb.DuckDBPyConnection, table: str, key: list[str], bare: Path, factory: Path
) -> list[str]:
    _show(connection, table, bare, factory)
    rows, other_rows, missing = _numbers(
        connection,
        "select (select count(*) from bare), (select count(*) from factory), "
        f"(select count(*) from bare left join factory using ({', '.join(key)}) where not coalesce("
        f"abs(bare.score - factory.score) <= {_TOLERANCE} and bare.in_sample = factory.in_sample "
        "and bare.prediction_date = factory.prediction_date, false))",
    )
    return _differ(table, rows, other_rows, missing)


def _compare_verdicts(connection: duckdb.DuckDBPyConnection, bare: Path, factory: Path) -> list[str]:
    """The factory keeps its numbers as JSON: a lag in hours, or the largest PSI. It judges more than that.

    Whether rows of a day count in full is the factory's own measure: of drift the effect is compared, not the verdict.
    """
    _show(connection, "ops/check_results", bare, factory)
    connection.execute(
        "create or replace view serving as select * from factory "
        'where champion_version > 0 and (line, "check") in (select (line, "check") from bare)'
    )
    number = "coalesce(numbers ->> 'lag_hours', numbers ->> 'largest_effect')::double"
    rows, other_rows, missing = _numbers(
        connection,
        "select (select count(*) from bare), (select count(*) from serving), "
        'count(*) from bare left join serving using (line, "check", evaluated_at_utc) where not coalesce('
        f"abs(bare.value - {number}) <= {_TOLERANCE} and (bare.passed = serving.passed or \"check\" like '%_drift'), false)",
    )
    return _differ("ops/check_results", rows, other_rows, missing)


def _differ(table: str, rows: int, other_rows: int, missing: int) -> list[str]:
    if rows != other_rows or missing:
        return [f"{table}: {rows} and {other_rows} rows, {missing} of the bare script's are not the factory's"]
    return [] if rows else [f"{table}: empty on both sides, which compares nothing"]
