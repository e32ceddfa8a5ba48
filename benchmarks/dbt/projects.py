"""The same ten models as three dbt projects: Delta tables by the factory, DuckDB tables, and those from Delta sources."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb
import yaml
from deltalake import write_deltalake

from tests.bronze_fixture import DBT_PROJECT, read_raw

MEMORY_MB = 1024
THREADS = 2
YEAR_ROWS = 336_776
# Two models of every row, eight that group or filter them.
MODELS = {
    "flights": """select carrier, flight, tailnum, origin, dest, time_hour, dep_delay, arr_delay, air_time, distance, copy,
        cast(date_trunc('month', partition_date) as date) as flight_month,
        concat_ws('-', carrier, flight, origin, dest, copy, strftime(time_hour, '%Y%m%d%H')) as flight_id,
        time_hour + to_minutes(cast(minute as integer)) as scheduled_utc from {source}""",
    "arrivals": "select * exclude (air_time), arr_delay > 15 as late from {{ ref('flights') }} where arr_delay is not null",
    "by_carrier": "select carrier, count(*) as n, avg(arr_delay) as delay from {{ ref('arrivals') }} group by carrier",
    "by_route": "select origin, dest, count(*) as n, avg(arr_delay) as delay from {{ ref('arrivals') }} group by all",
    "by_plane": "select tailnum, count(*) as n, max(distance) as miles from {{ ref('flights') }} group by all",
    "by_hour": "select origin, time_hour, count(*) as n from {{ ref('flights') }} group by all",
    "by_copy": "select copy, count(*) as n, max(arr_delay) as delay from {{ ref('arrivals') }} group by all",
    "hour_lags": """select h.origin, h.time_hour, h.n, p.n as before from {{ ref('by_hour') }} as h
        left join {{ ref('by_hour') }} as p on h.origin = p.origin and h.time_hour - interval 1 hour = p.time_hour""",
    "worst_routes": "select * from {{ ref('by_route') }} where delay > 10",
    "longest": "select * from {{ ref('arrivals') }} where distance > 2500 and late",
}


def write_bronze(lake: Path, copies: int) -> None:
    """`bronze/flights`: the flights of a year, as many times over, streamed into one version."""
    with duckdb.connect() as connection:
        connection.execute("SET enable_progress_bar = false")
        year = read_raw("flights")
        connection.register("year", year)
        rows = connection.sql(f"select year.*, cast(c.range as integer) as copy from year, range({copies}) as c")
        with rows.to_arrow_reader(65_536) as reader:
            write_deltalake(str(lake / "bronze" / "flights"), reader, mode="overwrite")


def write_project(folder: Path, lake: Path, side: str) -> Path:
    """The project of one side: `delta`, `duckdb` or `plugin`."""
    project = folder / side
    (project / "models").mkdir(parents=True)
    settings = yaml.safe_load((DBT_PROJECT / "dbt_project.yml").read_text())
    profile = yaml.safe_load((DBT_PROJECT / "profiles.yml").read_text())
    output = profile["factory"]["outputs"]["local"]
    output["threads"] = 1 if side == "plugin" else THREADS
    output["config_options"] = {"memory_limit": f"{MEMORY_MB}MB"}
    if side == "delta":
        shutil.copytree(DBT_PROJECT / "macros", project / "macros")
        settings["models"] = {"factory": {"+materialized": "delta", "+schema": "marts"}}
        source = "{{ source('bronze', 'flights') }}"
    else:
        output["path"] = str(folder / f"{side}.duckdb")
        output["plugins"] = [{"module": "delta"}] if side == "plugin" else []
        settings["models"] = {"factory": {"+materialized": "table"}}
        files = sorted(str(path) for path in (lake / "bronze" / "flights").glob("*.parquet"))
        source = "{{ source('bronze', 'flights') }}" if side == "plugin" else f"read_parquet({files})"
    settings.pop("on-run-start", None) if side != "delta" else None
    settings.pop("on-run-end", None) if side != "delta" else None
    (project / "dbt_project.yml").write_text(yaml.safe_dump(settings))
    (project / "profiles.yml").write_text(yaml.safe_dump(profile))
    table = {"name": "flights"}
    if side == "plugin":
        table |= {"config": {"meta": {"plugin": "delta", "delta_table_path": str(lake / "bronze" / "flights")}}}
    (project / "models" / "sources.yml").write_text(
        yaml.safe_dump({"version": 2, "sources": [{"name": "bronze", "tables": [table]}]})
    )
    for name, sql in MODELS.items():
        (project / "models" / f"{name}.sql").write_text(sql.replace("{source}", source))
    tested = [{"name": "by_carrier", "columns": [{"name": "carrier", "data_tests": ["unique", "not_null"]}]}]
    (project / "models" / "models.yml").write_text(yaml.safe_dump({"version": 2, "models": tested}))
    return project


def write_small_project(folder: Path, models: Mapping[str, str], sources: Sequence[str]) -> Path:
    """A project of these models as Delta tables, over sources of the schema `bronze`."""
    project = write_project(folder, folder / "lake", "delta")
    shutil.rmtree(project / "models")
    (project / "models").mkdir()
    tables = [{"name": name} for name in sources]
    document = {"version": 2, "sources": [{"name": "bronze", "tables": tables}]}
    (project / "models" / "sources.yml").write_text(yaml.safe_dump(document))
    for name, sql in models.items():
        (project / "models" / f"{name}.sql").write_text(sql)
    return project


def dbt(*arguments: str) -> list[str]:
    """The command line of dbt in this environment."""
    return [str(Path(sys.executable).with_name("dbt")), "--quiet", *arguments]
