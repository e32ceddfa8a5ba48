"""The maintenance asset, declared in YAML and run by Dagster on a real lake."""

from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa
import pytest
import yaml
from deltalake import write_deltalake
from pydantic import ValidationError

from factory_assets.components.naming import DBT_POOL, MAINTENANCE_JOB, MAINTENANCE_SCHEDULE, maintenance_key
from factory_assets.contracts.maintenance import MaintenanceSpec
from factory_assets.storage.delta.lake import Lake
from tests.aged_tables import age_table
from tests.dbt.conftest import make_sandbox


def run(sandbox: Any, *, raise_on_error: bool = True) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        job = sandbox.build().resolve_job_def(MAINTENANCE_JOB)
        return job.execute_in_process(instance=instance, raise_on_error=raise_on_error)


@pytest.fixture
def lake(sandbox: Any) -> Lake:
    lake = Lake(sandbox.settings.lake)
    for table in ("marts/many", "ops/few"):
        for number in range(9 if table == "marts/many" else 2):
            write_deltalake(lake.uri(table), pa.table({"n": [number]}), mode="append")
    return lake


def test_a_round_says_what_it_did_to_each_table(sandbox: Any, lake: Lake) -> None:
    sandbox.declare("maintenance", "Maintenance", {"retention": "1d"})
    (event,) = run(sandbox).asset_materializations_for_node("lake__maintenance")
    found = {key: value.value for key, value in event.metadata.items()}
    assert (found["tables"], found["files_before"], found["files_after"], found["files_freed"]) == (2, 11, 3, 0)
    many, few = (record.data for record in found["care"].records)
    assert (many["table"], many["rows"], many["files before"], many["files after"]) == ("marts/many", 9, 9, 1)
    assert (few["table"], few["files after"]) == ("ops/few", 2)
    age_table_without_checkpoint(lake)
    (event,) = run(sandbox).asset_materializations_for_node("lake__maintenance")
    assert event.metadata["files_freed"].value == 9
    assert event.metadata["bytes_freed"].value > 0
    assert lake.pin("marts/many").row_count == 9


def age_table_without_checkpoint(lake: Lake) -> None:
    log = Path(lake.uri("marts/many")) / "_delta_log"
    for file in [*log.glob("*.checkpoint.parquet"), *log.glob("_last_checkpoint")]:
        file.unlink()
    age_table(Path(lake.uri("marts/many")), 2)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"retention": "3d"}, (2, 0)),
        ({"exclude": ["marts/*"]}, (1, 0)),
        ({"tables": ["marts/many"]}, (1, 9)),
        ({"compact_from": 10}, (2, 0)),
        ({"keep": {"marts/many": [8]}}, (2, 0)),
        ({"keep": {"marts/many": [3]}}, (2, 5)),
        ({"compact_from": 10, "z_order": {"marts/many": ["n"]}}, (2, 9)),
    ],
)
def test_every_key_changes_the_round(
    sandbox: Any, lake: Lake, attributes: dict[str, Any], expected: tuple[int, int]
) -> None:
    settings = {"retention": "1d", **attributes}
    sandbox.declare("maintenance", "Maintenance", settings)
    run(sandbox)
    age_table_without_checkpoint(lake)
    (event,) = run(sandbox).asset_materializations_for_node("lake__maintenance")
    assert (event.metadata["tables"].value, event.metadata["files_freed"].value) == expected


def test_a_table_that_cannot_be_cared_for_fails_the_run_by_name_after_the_others_were(sandbox: Any, lake: Lake) -> None:
    sandbox.declare("maintenance", "Maintenance", {"z_order": {"ops/few": ["gone"]}})
    result = run(sandbox, raise_on_error=False)
    assert not result.success
    failure = result.failure_data_for_node("lake__maintenance")
    assert "ops/few: " in failure.user_failure_data.description
    assert "gone" in failure.user_failure_data.description
    assert len(lake.pin("marts/many").handle.file_uris()) == 1


def test_what_the_dbt_project_pins_is_kept_until_the_pin_is_dropped(sandbox: Any, lake: Lake) -> None:
    small = make_sandbox(sandbox.root / "small")
    pins = [{"name": "many", "config": {"meta": {"delta": {"version": 3}}}}]
    source = {"name": "marts", "schema": "marts", "tables": pins}
    (small.project / "models" / "pinned.yml").write_text(yaml.safe_dump({"version": 2, "sources": [source]}))
    sandbox.declare("dbt", "DbtProject", {"path": "small/project"})
    sandbox.declare("maintenance", "Maintenance", {"retention": "1d"})
    run(sandbox)
    age_table_without_checkpoint(lake)
    (event,) = run(sandbox).asset_materializations_for_node("lake__maintenance")
    (kept,) = (row.data["versions kept"] for row in event.metadata["care"].records if row.data["table"] == "marts/many")
    assert kept == "3"
    assert len(lake.query("select * from t", t=lake.pin("marts/many", 3))) == 4
    (small.project / "models" / "pinned.yml").unlink()
    age_table_without_checkpoint(lake)
    run(sandbox)
    with pytest.raises(duckdb.IOException, match="No files found"):
        lake.query("select * from t", t=lake.pin("marts/many", 3))


def test_a_project_whose_pins_are_not_known_stops_the_round_before_anything_is_deleted(sandbox: Any, lake: Lake) -> None:
    small = make_sandbox(sandbox.root / "small")
    (small.project / "models" / "broken.sql").write_text("{{ not closed")
    sandbox.declare("dbt", "DbtProject", {"path": "small/project"})
    sandbox.declare("maintenance", "Maintenance", {"retention": "1d"})
    result = run(sandbox, raise_on_error=False)
    assert not result.success
    (failure,) = result.get_step_failure_events()
    said = str(failure.step_failure_data.error_display_string)
    assert "a dbt project does not load, so the versions that it pins are not known" in said
    assert lake.pin("marts/many").version == 8


def test_the_round_is_daily_in_the_calendars_zone_and_never_beside_a_dbt_build(sandbox: Any) -> None:
    sandbox.declare("maintenance", "Maintenance", {"at": "04:15"})
    definitions = sandbox.build()
    schedule = definitions.resolve_schedule_def(MAINTENANCE_SCHEDULE)
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("15 4 * * *", "America/New_York")
    asset = definitions.resolve_assets_def(maintenance_key())
    assert asset.op.pool == DBT_POOL


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"retention": "30m"}, "write 1h or more"),
        ({"tables": ["fct_flight"]}, "names no table"),
        ({"at": "3:30"}, "is not a time of day"),
        ({"z_order": {"marts/x": ["a b"]}}, "is not a column name"),
        ({"compact_from": 1}, "greater than or equal to 2"),
    ],
)
def test_a_wrong_declaration_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        MaintenanceSpec(**changes)
