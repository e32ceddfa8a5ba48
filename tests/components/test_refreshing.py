"""A stale source is read again by the sensor, on Dagster's real record, and what is made of it follows."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from factory_assets.components.naming import RANGE_END_TAG, RANGE_START_TAG, bronze_key
from factory_assets.components.refreshing import build_refresh_sensor
from factory_assets.components.source_checks import build_source_checks
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.contracts.source import SourceSpec
from factory_assets.resources import ClockResource, LakeResource
from factory_assets.storage.clock import FactoryClock
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.landing import find_files
from factory_assets.storage.tables.bronze import BronzeWriter
from factory_assets.storage.tables.incidents import Incidents
from tests.components.test_broken_feeds import an_incident, success_of

NOW = datetime(2013, 7, 10, 14, tzinfo=UTC)
SOURCE = SourceSpec.model_validate(
    {
        "name": "flights",
        "landing": "flights/{partition}*.csv",
        "partitions": "daily",
        "keys": ["id"],
        "event_time": "at",
        "max_lag": "24h",
        "columns": {"id": {"type": "bigint"}, "at": {"type": "timestamp"}},
    }
)
CALENDAR = CalendarSpec(start=NOW.date() - timedelta(days=30))


class Stand:
    """One source with its check and the sensor. `ingest` is what the daily job does of it."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.folder, self.instance = folder, instance
        self.lake = Lake(str(folder / "lake"))
        FactoryClock(folder / "clock.json").set(NOW)
        self.resources = {
            "lake": LakeResource(root=str(folder / "lake"), landing=str(folder / "landing"), models=str(folder)),
            "clock": ClockResource(path=str(folder / "clock.json")),
        }

    def land(self, days_ago: int) -> None:
        day = NOW - timedelta(days=days_ago)
        file = self.folder / "landing" / "flights" / f"{day.date()}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"id,at\n1,{day.isoformat()}\n")

    def ingest(self, *days_ago: int) -> None:
        days = [str((NOW - timedelta(days=days)).date()) for days in days_ago]
        BronzeWriter(self.lake, SOURCE, "UTC").ingest(find_files(self.folder / "landing", SOURCE, days), NOW, [])

    def judge(self) -> bool:
        """Runs the source's own check and lets Dagster record it, as the monitor job does."""
        (_, check) = build_source_checks(SOURCE)
        result = check(lake=self.resources["lake"], clock=self.resources["clock"])
        self.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(bronze_key("flights"), "data_freshness", result.passed)
        )
        return bool(result.passed)

    def tick(self) -> dg.RunRequest | str:
        context = dg.build_sensor_context(instance=self.instance, resources=self.resources)
        answer = build_refresh_sensor([SOURCE], CALENDAR)(context)
        return answer if isinstance(answer, dg.RunRequest) else str(answer.skip_message)

    def run(self, request: dg.RunRequest, status: dg.DagsterRunStatus) -> None:
        run = dg.DagsterRun(job_name="daily", run_id=a_run_id(), tags=request.tags, status=dg.DagsterRunStatus.STARTED)
        self.instance.add_run(run)
        if status == dg.DagsterRunStatus.FAILURE:
            self.instance.report_run_failed(run)
        elif status == dg.DagsterRunStatus.SUCCESS:
            self.instance.handle_new_event(success_of(run))


def a_run_id() -> str:
    from uuid import uuid4

    return str(uuid4())


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with dg.DagsterInstance.ephemeral(str(tmp_path)) as instance:
        stand = Stand(tmp_path, instance)
        stand.land(3)
        stand.ingest(3)
        yield stand


def test_a_stale_source_is_read_again_once_and_not_at_every_tick(stand: Stand) -> None:
    assert stand.tick() == "No source is stale."
    assert not stand.judge()
    request = stand.tick()
    assert isinstance(request, dg.RunRequest)
    assert (request.tags[RANGE_START_TAG], request.tags[RANGE_END_TAG]) == ("2013-07-07", "2013-07-09")
    again = stand.tick()
    assert isinstance(again, dg.RunRequest)
    assert again.run_key == request.run_key
    stand.run(request, dg.DagsterRunStatus.STARTED)
    assert stand.tick() == "The daily job is running."


def test_a_run_that_brought_nothing_is_not_repeated_until_a_file_comes(stand: Stand) -> None:
    stand.judge()
    request = stand.tick()
    assert isinstance(request, dg.RunRequest)
    stand.run(request, dg.DagsterRunStatus.SUCCESS)
    assert "waits for a new file" in str(stand.tick())
    stand.land(1)
    late = stand.tick()
    assert isinstance(late, dg.RunRequest)
    assert late.run_key != request.run_key
    stand.ingest(1)
    assert stand.tick() == "No source is stale."
    assert stand.judge()


def test_a_run_that_failed_is_tried_again_after_its_backoff_only(stand: Stand) -> None:
    stand.judge()
    request = stand.tick()
    assert isinstance(request, dg.RunRequest)
    stand.run(request, dg.DagsterRunStatus.FAILURE)
    assert "after a failure" in str(stand.tick())


def test_a_held_day_is_left_to_whoever_mends_it(stand: Stand) -> None:
    stand.judge()
    Incidents(stand.lake).write([an_incident(day=NOW.date() - timedelta(days=1))])
    assert "wait for mended files" in str(stand.tick())
    Incidents(stand.lake).write([an_incident(day=NOW.date() - timedelta(days=1), state="repaired")])
    assert isinstance(stand.tick(), dg.RunRequest)


def test_keys_of_a_refresh_need_a_lag() -> None:
    declared = SOURCE.model_dump(exclude={"max_lag"}) | {"refresh": {"backoff": "1h"}}
    with pytest.raises(ValueError, match="declare max_lag"):
        SourceSpec.model_validate(declared)


def test_the_sensor_is_there_when_a_source_has_a_lag(sandbox: Any) -> None:
    declared = {name: value for name, value in SOURCE.model_dump(mode="json").items() if name not in ("incidents",)}
    sandbox.declare("sources/flights", "DeltaSource", declared | {"max_lag": "24h"})
    assert sandbox.build().resolve_sensor_def("refresh")
    sandbox.declare("sources/flights", "DeltaSource", declared | {"max_lag": None})
    names = {sensor.name for sensor in sandbox.build().sensors or []}
    assert "refresh" not in names
