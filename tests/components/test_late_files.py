"""A file that lands after the day's run: the stale source is read again, and features and predictions follow in that run."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from factory_assets.components.naming import DAILY_JOB, MONITOR_JOB
from factory_assets.storage.clock import FactoryClock
from factory_assets.storage.delta.lake import Lake
from tests.components.conftest import Sandbox
from tests.components.test_own_checks import LINE, World
from tests.lines.conftest import NOW, write_things

SOURCE = {
    "name": "events",
    "landing": "events/{partition}.csv",
    "partitions": "daily",
    "keys": ["id"],
    "event_time": "at",
    "max_lag": "36h",
    "columns": {
        "id": {"type": "bigint"},
        "at": {"type": "timestamp"},
        "x": {"type": "double"},
        "kind": {"type": "string"},
        "late": {"type": "boolean"},
        "known_at": {"type": "timestamp"},
    },
}


@pytest.fixture
def world(sandbox: Sandbox, tmp_path: Path) -> Any:
    sandbox.declare("calendar", "Calendar", {"start": "2013-01-01", "timezone": "UTC", "lookback_days": 3})
    sandbox.declare("events", "DeltaSource", SOURCE)
    line = {**LINE, "retrain": {"triggers": ["model_age"]}, "freshness": {"predictions_by": "06:00"}}
    with dg.DagsterInstance.ephemeral(str(tmp_path)) as instance:
        yield World(sandbox, instance, line, has_rows=False), Path(sandbox.settings.landing)


def land(landing: Path, made: Lake, day: str) -> None:
    """The things of a day in UTC, as a file of their source."""
    write_things(made)
    sql = (
        'select id, f."at", x, kind, late, known_at from f join l using (id) where timezone(\'UTC\', f."at")::date = ?::date'
    )
    rows = made.query(sql, [day], f=made.pin("features/feat_thing"), l=made.pin("marts/fct_thing")).to_pandas()
    (landing / "events").mkdir(parents=True, exist_ok=True)
    rows.to_csv(landing / "events" / f"{day}.csv", index=False)


def test_a_late_file_is_taken_in_and_features_and_predictions_follow(world: Any, tmp_path: Path) -> None:
    factory, landing = world
    made = Lake(str(tmp_path / "made"))
    first = NOW - timedelta(days=30)
    for number in range(30):  # up to the ninth of February, of which the last two are late
        if number < 28:
            land(landing, made, str((first + timedelta(days=number)).date()))
    FactoryClock(Path(factory.settings.clock)).set(NOW + timedelta(hours=15))
    everything = {"dagster/asset_partition_range_start": "2013-01-11", "dagster/asset_partition_range_end": "2013-02-09"}
    assert factory.run(DAILY_JOB, tags=everything).success
    assert factory.run("delay__retrain").success
    assert str(factory.tick("refresh").skip_message) == "No source is stale."

    monitored = {e.check_name: e.passed for e in factory.run(MONITOR_JOB).get_asset_check_evaluations()}
    assert not monitored["data_freshness"]
    assert not monitored["feature_freshness"]
    assert not monitored["predictions_delivered"]
    land(landing, made, "2013-02-09")
    request = factory.tick("refresh")
    assert factory.run(DAILY_JOB, tags=request.tags).success
    assert "2013-02-09" in factory.scored_days()
    assert str(factory.tick("refresh").skip_message) == "No source is stale."
    monitored = {e.check_name: e.passed for e in factory.run(MONITOR_JOB).get_asset_check_evaluations()}
    assert monitored["data_freshness"]
    assert monitored["feature_freshness"]
    assert monitored["predictions_delivered"]
