"""The dbt project over real slices of the data: results, incremental runs, descriptions, and the plain command line."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from factory_assets.storage.sql import equals_any
from tests.bronze_fixture import DBT_PROJECT, complaints, read_all, read_raw, read_rows, run_dbt, write_bronze

FIRST, LAST = date(2013, 1, 20), date(2013, 2, 10)
LATE_DAY = date(2013, 2, 9)
KEYS = {
    "staging/stg_flights": "flight_id",
    "staging/stg_weather": "origin, observed_at_utc",
    "marts/dim_plane": "tail_number",
    "marts/fct_flight": "flight_id",
    "marts/fct_airport_hour": "origin, hour_start_utc",
    "features/feat_flight_departure": "flight_id",
    "features/feat_airport_hour": "origin, hour_start_utc",
}
OUTCOMES = ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, work: Path) -> Path:
    """A lake on which one `dbt build` has run."""
    lake = tmp_path_factory.mktemp("lake")
    write_bronze(lake, read_all(FIRST, LAST))
    result = run_dbt(lake, work, ["build"])
    assert result.success, complaints(result)
    return lake


@pytest.fixture
def lake(built: Path, tmp_path: Path) -> Path:
    """A copy of the built lake, to be changed."""
    return Path(shutil.copytree(built, tmp_path / "lake"))


def _build(lake: Path, work: Path) -> None:
    result = run_dbt(lake, work, ["build"])
    assert result.success, complaints(result)


def _versions(lake: Path) -> dict[str, int]:
    return {table: DeltaTable(str(lake / table)).version() for table in KEYS}


def _rewrite_days(lake: Path, source: str, rows: pa.Table) -> None:
    days = pc.unique(rows.column("partition_date")).to_pylist()
    write_deltalake(
        DeltaTable(str(lake / "bronze" / source)),
        rows,
        mode="overwrite",
        predicate=equals_any("partition_date", days),
    )


def _later(rows: pa.Table, hours: int) -> pa.Table:
    stamp = datetime(2014, 1, 2, 6, tzinfo=UTC) + timedelta(hours=hours)
    index = rows.column_names.index("_ingested_at_utc")
    kind = rows.schema.field("_ingested_at_utc")
    return rows.set_column(index, kind, pa.repeat(pa.scalar(stamp, kind.type), rows.num_rows))


def _without_outcomes(rows: pa.Table) -> pa.Table:
    for column in OUTCOMES:
        kind = rows.schema.field(column)
        rows = rows.set_column(rows.column_names.index(column), kind, pa.nulls(rows.num_rows, kind.type))
    return rows


def test_flights_are_the_same_as_plain_duckdb_would_make_them(built: Path) -> None:
    flights = read_raw("flights", FIRST, LAST)
    with duckdb.connect() as connection:
        connection.execute("SET timezone = 'UTC'")
        connection.register("flights", flights)
        expected = connection.sql(
            """
            select carrier || '-' || flight || '-' || origin || '-' || dest || '-'
                   || strftime(time_hour + minute * interval '1 minute', '%Y%m%d%H%M') as flight_id,
                   time_hour + (minute + dep_delay) * interval '1 minute' as departed_at_utc,
                   case when arr_delay is null then null else arr_delay > 15 end as arrived_late
            from flights order by 1
            """
        ).fetchall()
    actual = read_rows(built, "marts/fct_flight", "flight_id")
    assert actual.num_rows == flights.num_rows == len(expected)
    columns = [actual.column(name).to_pylist() for name in ("flight_id", "departed_at_utc", "arrived_late")]
    assert list(zip(*columns, strict=True)) == expected


def test_hourly_departures_are_the_same_as_counting_flights_hour_by_hour(built: Path) -> None:
    hours = read_rows(built, "marts/fct_airport_hour", "origin, hour_start_utc")
    flights = read_rows(built, "marts/fct_flight", "flight_id")
    with duckdb.connect() as connection:
        connection.execute("SET timezone = 'UTC'")
        connection.register("hours", hours)
        connection.register("flights", flights)
        counted = connection.sql(
            """
            select
                (select count(*) from flights f where f.origin = h.origin and f.scheduled_hour_utc = h.hour_start_utc),
                (select count(*) from flights f where f.origin = h.origin
                 and f.departed_at_utc >= h.hour_start_utc and f.departed_at_utc < h.hour_end_utc)
            from hours h order by h.origin, h.hour_start_utc
            """
        ).fetchall()
    assert hours.num_rows == len(counted) > 1_000
    columns = (hours.column(name).to_pylist() for name in ("scheduled_departures", "actual_departures"))
    assert list(zip(*columns, strict=True)) == counted
    assert pc.sum(hours.column("scheduled_departures")).as_py() == flights.num_rows


def test_every_feature_has_values_and_the_features_tell_flights_apart(built: Path) -> None:
    features = read_rows(built, "features/feat_flight_departure", "flight_id")
    for column in features.column_names:
        assert features.column(column).null_count < 0.35 * features.num_rows, column
        assert len(pc.unique(features.column(column))) > 1, column


def test_building_again_changes_no_row_and_writes_no_incremental_version(lake: Path, work: Path) -> None:
    before, versions = {table: read_rows(lake, table, key) for table, key in KEYS.items()}, _versions(lake)
    _build(lake, work)
    for table, key in KEYS.items():
        assert read_rows(lake, table, key).equals(before[table]), table
    incremental = ("staging/stg_flights", "staging/stg_weather", "marts/fct_flight")
    assert [_versions(lake)[table] for table in incremental] == [versions[table] for table in incremental]


def test_outcomes_that_arrive_late_reopen_their_month_and_give_what_a_fresh_build_gives(
    lake: Path, work: Path, built: Path
) -> None:
    complete = _later(read_raw("flights", LATE_DAY, LATE_DAY), hours=30)
    _rewrite_days(lake, "flights", _later(_without_outcomes(complete), hours=1))
    _build(lake, work)
    pending = read_rows(lake, "marts/fct_flight", "flight_id")
    pending = pending.filter(pc.equal(pending.column("flight_date"), LATE_DAY))
    assert pending.num_rows == complete.num_rows
    assert pending.column("arrived_late").null_count == pending.num_rows

    other_month = [uri for uri in DeltaTable(str(lake / "marts/fct_flight")).file_uris() if "=2013-01-01" in uri]
    _rewrite_days(lake, "flights", complete)
    _build(lake, work)
    kept = [uri for uri in DeltaTable(str(lake / "marts/fct_flight")).file_uris() if "=2013-01-01" in uri]
    assert kept == other_month
    for table, key in KEYS.items():
        mended, fresh = read_rows(lake, table, key), read_rows(built, table, key)
        if "ingested_at_utc" in mended.column_names:
            mended, fresh = mended.drop_columns("ingested_at_utc"), fresh.drop_columns("ingested_at_utc")
        assert mended.equals(fresh), table


def test_a_row_that_was_withdrawn_and_a_day_that_was_added_reach_the_marts(lake: Path, work: Path) -> None:
    last_day = read_raw("flights", LAST, LAST)
    next_day = read_raw("flights", LAST + timedelta(days=1), LAST + timedelta(days=1))
    _rewrite_days(lake, "flights", last_day.slice(1))
    _rewrite_days(lake, "flights", next_day)
    _build(lake, work)
    flights = read_rows(lake, "marts/fct_flight", "flight_id")
    assert flights.num_rows == read_raw("flights", FIRST, LAST).num_rows - 1 + next_day.num_rows


def test_weather_that_was_corrected_replaces_the_earlier_observation(lake: Path, work: Path) -> None:
    observations = _later(read_raw("weather", LAST, LAST), hours=5)
    index = observations.column_names.index("temp")
    observations = observations.set_column(index, "temp", pa.repeat(pa.scalar(99.5), observations.num_rows))
    before = read_rows(lake, "staging/stg_weather", KEYS["staging/stg_weather"])
    _rewrite_days(lake, "weather", observations)
    _build(lake, work)
    after = read_rows(lake, "staging/stg_weather", KEYS["staging/stg_weather"])
    corrected = pc.equal(after.column("temperature_fahrenheit"), 99.5)
    assert after.num_rows == before.num_rows
    assert pc.sum(corrected).as_py() == observations.num_rows
    assert after.filter(pc.invert(corrected)).equals(before.filter(pc.invert(corrected)))


def test_a_layer_built_alone_reads_the_layers_before_it_from_the_lake(lake: Path, work: Path) -> None:
    before = read_rows(lake, "features/feat_airport_hour", KEYS["features/feat_airport_hour"])
    shutil.rmtree(lake / "features")
    result = run_dbt(lake, work, ["build", "--select", "features"])
    assert result.success, complaints(result)
    assert read_rows(lake, "features/feat_airport_hour", KEYS["features/feat_airport_hour"]).equals(before)


def test_an_empty_lake_is_told_apart_from_a_broken_model(tmp_path: Path, work: Path) -> None:
    result = run_dbt(tmp_path / "nothing here", work, ["build"])
    assert not result.success
    assert "were the sources ingested into it?" in complaints(result)


@pytest.fixture(scope="module")
def manifest(built: Path, work: Path) -> dict[str, Any]:
    assert built
    loaded: dict[str, Any] = json.loads((work / "target" / "manifest.json").read_text())
    return loaded


def test_every_column_of_every_model_and_source_is_described(built: Path, manifest: dict[str, Any]) -> None:
    models = [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]
    documented = [*models, *manifest["sources"].values()]
    assert len(documented) == 16
    for node in documented:
        table = DeltaTable(str(built / node["schema"] / node["name"]))
        columns = {name: column["description"].strip() for name, column in node["columns"].items()}
        assert node["description"].strip(), node["name"]
        assert set(columns) == {field.name for field in table.schema().fields}, node["name"]
        assert all(columns.values()), [name for name, description in columns.items() if not description]


def test_feature_sets_tell_what_they_are_keyed_by_and_hold_plain_types(built: Path, manifest: dict[str, Any]) -> None:
    features = [node for node in manifest["nodes"].values() if node.get("schema") == "features"]
    models = [node for node in features if node["resource_type"] == "model"]
    assert {node["name"] for node in models} == {"feat_flight_departure", "feat_airport_hour", "feat_scheduled_flight"}
    for node in models:
        feature_set = node["config"]["meta"]["feature_set"]
        # A flight's number is a name: models are trained by it, and not on it.
        named = {*feature_set["entity"], feature_set["as_of"], "flight_number"}
        schema = {f.name: f.type.type for f in DeltaTable(str(built / "features" / node["name"])).schema().fields}
        assert node["config"]["contract"]["enforced"]
        assert schema[feature_set["as_of"]] == "timestamp"
        assert {kind for name, kind in schema.items() if name not in named} == {"string", "double"}


def test_every_model_is_grouped_by_its_layer_and_every_mart_and_feature_set_is_tested(manifest: dict[str, Any]) -> None:
    models = {key: node for key, node in manifest["nodes"].items() if node["resource_type"] == "model"}
    unit_tested = {parent for test in manifest["unit_tests"].values() for parent in test["depends_on"]["nodes"]}
    for key, node in models.items():
        assert node["config"]["meta"]["dagster"]["group"] == node["schema"]
        assert any(child.startswith("test.") for child in manifest["child_map"][key]), key
    assert unit_tested == {
        f"model.factory.{name}"
        for name in ("fct_flight", "fct_airport_hour", "feat_flight_departure", "feat_airport_hour", "feat_scheduled_flight")
    }


def test_plain_dbt_build_in_the_folder_needs_no_flag(tmp_path: Path) -> None:
    project = tmp_path / "dbt_project"
    shutil.copytree(DBT_PROJECT, project, ignore=shutil.ignore_patterns("target", "logs", ".user.yml"))
    write_bronze(tmp_path / "data" / "lake", read_all(FIRST, FIRST + timedelta(days=1)))
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("FACTORY_", "DBT_"))}
    dbt = Path(sys.executable).with_name("dbt")
    done = subprocess.run([dbt, "build"], cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "ERROR=0 SKIP=0" in done.stdout
    assert (tmp_path / "data/lake/features/feat_flight_departure/_delta_log").is_dir()
    assert {path.name for path in project.iterdir()} - {path.name for path in DBT_PROJECT.iterdir()} <= {
        "target",
        "logs",
    }


def test_the_lake_lies_beside_the_project_wherever_dbt_is_started(tmp_path: Path) -> None:
    project = tmp_path / "dbt_project"
    shutil.copytree(DBT_PROJECT, project, ignore=shutil.ignore_patterns("target", "logs", ".user.yml"))
    write_bronze(tmp_path / "data" / "lake", {"planes": read_raw("planes")})
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("FACTORY_", "DBT_"))}
    command = [
        str(Path(sys.executable).with_name("dbt")),
        "build",
        "--select",
        "stg_planes",
        "--project-dir",
        "dbt_project",
    ]
    command += ["--profiles-dir", "dbt_project"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "data/lake/staging/stg_planes/_delta_log").is_dir()
