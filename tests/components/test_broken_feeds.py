"""What waits while a feed is broken, and what starts by itself when it is mended: real sensors on real stores."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pyarrow as pa
import pytest

from factory_assets.components.catching_up import build_catch_up_sensor
from factory_assets.components.model_line.checks import check_keys
from factory_assets.components.model_line.retraining import build_retraining_sensor
from factory_assets.components.naming import CATCH_UP_SENSOR, LOST_TAG, RANGE_START_TAG, SENSOR_TAG
from factory_assets.components.source_checks import build_source_checks, source_check_keys
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.contracts.incidents import Finding, Incident
from factory_assets.contracts.source import SourceSpec
from factory_assets.core.monitoring import refreshing
from factory_assets.resources import ClockResource, LakeResource, MlflowResource
from factory_assets.storage.clock import FactoryClock
from factory_assets.storage.delta.lake import UTC_TIMESTAMP, Lake, TableSpec
from factory_assets.storage.tables.incidents import Incidents
from tests.components.test_retraining_sensor import NOW, SPEC

DAY = NOW.date() - timedelta(days=1)
SOURCE = SourceSpec(
    name="flights", landing="flights/{partition}*.csv", partitions="daily", keys=("id",), columns={"id": {"type": "bigint"}}
)
CALENDAR = CalendarSpec(start=date(2013, 1, 1))
FINDING = Finding("half_batch", "", 400, "about 980 rows", "400 (41%)")


def an_incident(source: str = "flights", day: date = DAY, **changes: Any) -> Incident:
    opened = Incident(source, day, "half_batch", "open", "as landed", (FINDING,), "half", NOW, datetime.now(UTC))
    return replace(opened, **changes)


class Stand:
    """Sensors of one line and one source on a lake with incidents."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.folder = folder
        self.instance = instance
        self.incidents = Incidents(Lake(str(folder / "lake")))
        FactoryClock(folder / "clock.json").set(NOW)
        self.resources = {
            "lake": LakeResource(root=str(folder / "lake"), landing=str(folder / "landing"), models=str(folder)),
            "mlflow": MlflowResource(tracking_uri="sqlite:////nowhere", artifact_root="/nowhere"),
            "clock": ClockResource(path=str(folder / "clock.json")),
        }

    def fail(self, kind: str = "model_age") -> None:
        key = check_keys(SPEC)[kind]
        metadata: dict[str, Any] = {"champion_version": 0, "data_as_of": dg.MetadataValue.timestamp(NOW)}
        self.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(key.asset_key, key.name, False, metadata=metadata, description="it said so")
        )

    def retrain(self) -> str | None:
        """None when a retrain is asked for, else why not."""
        return self._tick(build_retraining_sensor(SPEC, sources=("flights",)))

    def catch_up(self) -> list[dg.RunRequest] | str:
        context = dg.build_sensor_context(instance=self.instance, resources=self.resources)
        answer = build_catch_up_sensor([SOURCE], CALENDAR)(context)
        return str(answer.skip_message) if isinstance(answer, dg.SkipReason) else list(answer.run_requests)

    def start(self, request: dg.RunRequest) -> dg.DagsterRun:
        """The run of a request, under way."""
        tags = {**request.tags, SENSOR_TAG: CATCH_UP_SENSOR}
        run = dg.DagsterRun(job_name="daily", run_id=str(uuid4()), tags=tags, status=dg.DagsterRunStatus.STARTED)
        self.instance.add_run(run)
        return run

    def _tick(self, sensor: dg.SensorDefinition) -> str | None:
        answer = sensor(dg.build_sensor_context(instance=self.instance, resources=self.resources))
        return None if answer.run_requests else str(answer.skip_reason.skip_message)

    def land(self, text: str) -> None:
        file = self.folder / "landing" / "flights" / f"{DAY}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def success_of(run: dg.DagsterRun) -> Any:
    event = dg.DagsterEvent(event_type_value=dg.DagsterEventType.RUN_SUCCESS.value, job_name=run.job_name)
    return dg.EventLogEntry(
        error_info=None, level=20, user_message="", run_id=run.run_id, timestamp=datetime.now(UTC).timestamp(),
        dagster_event=event,
    )  # fmt: skip


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with dg.DagsterInstance.ephemeral(str(tmp_path)) as instance:
        yield Stand(tmp_path, instance)


def test_an_open_incident_upstream_holds_a_failed_check_back_and_says_so(stand: Stand) -> None:
    stand.incidents.write([an_incident()])
    stand.fail()
    reason = stand.retrain()
    assert reason is not None
    assert f"model_age held back by half batch of flights on {DAY}" in reason


@pytest.mark.parametrize(
    "elsewhere",
    [an_incident(source="parking"), an_incident(day=NOW.date() - timedelta(days=30))],
    ids=["a source that the line does not read", "a day that has left the window"],
)
def test_an_incident_elsewhere_holds_nothing_back(elsewhere: Incident, stand: Stand) -> None:
    stand.incidents.write([elsewhere])
    stand.fail()
    assert stand.retrain() is None


def test_after_the_repair_the_next_verdict_counts_and_not_the_one_before(stand: Stand) -> None:
    stand.fail()
    ended = datetime.now(UTC) + timedelta(seconds=1)
    stand.incidents.write([an_incident(state="repaired", ended_at_utc=NOW, ended_recorded_at_utc=ended)])
    reason = stand.retrain()
    assert reason is not None
    assert "which ended after the verdict" in reason
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    stand.incidents.write([an_incident(state="repaired", ended_at_utc=NOW, ended_recorded_at_utc=long_ago)])
    assert stand.retrain() is None


def test_mended_files_start_one_run_over_their_day(stand: Stand) -> None:
    assert stand.catch_up() == "No day is held or missing."
    stand.land("id\n1\n")
    (mark,) = {fingerprint(stand)}
    stand.incidents.write([an_incident(files=mark)])
    assert "Waiting for mended files of flights" in str(stand.catch_up())
    stand.land("id\n1\n2\n")
    (request,) = stand.catch_up()
    assert request.tags[RANGE_START_TAG] == str(DAY)
    (again,) = stand.catch_up()
    assert again.run_key == request.run_key


def test_a_missing_day_is_taken_in_when_its_file_lands(stand: Stand) -> None:
    stand.incidents.write([an_incident(kind="late_partition", files=fingerprint(stand))])
    assert "Waiting" in str(stand.catch_up())
    stand.land("id\n1\n")
    assert len(stand.catch_up()) == 1


@pytest.fixture
def accepted(stand: Stand) -> Stand:
    stand.land("id\n1\n")
    stand.incidents.write([an_incident(files=fingerprint(stand))])
    stand.incidents.accept("flights", DAY, "right after all")
    return stand


def test_an_accepted_day_is_asked_for_and_a_failed_run_is_tried_again_until_eight_have_failed(
    accepted: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refreshing, "_BACKOFF", timedelta(0))
    keys = []
    for _ in range(8):
        (request,) = accepted.catch_up()
        keys.append(request.run_key)
        started = accepted.start(request)
        assert "a run is under way" in str(accepted.catch_up())
        accepted.instance.report_run_failed(started)
    assert len(set(keys)) == 8
    assert "8 runs failed, and no more are tried" in str(accepted.catch_up())


def test_a_run_that_failed_is_waited_for_and_one_that_was_lost_is_not(accepted: Stand) -> None:
    (request,) = accepted.catch_up()
    lost = accepted.start(request)
    accepted.instance.add_run_tags(lost.run_id, {LOST_TAG: "true"})
    accepted.instance.report_run_failed(lost)
    (request,) = accepted.catch_up()
    accepted.instance.report_run_failed(accepted.start(request))
    assert f"Taking in {DAY}: a run failed, and the next is tried at" in str(accepted.catch_up())


def test_a_run_that_failed_after_it_ended_the_incident_is_asked_for_until_one_has_succeeded(
    accepted: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    (request,) = accepted.catch_up()
    first = accepted.start(request)
    accepted.incidents.write([replace(i, state="published") for i in accepted.incidents.read_open()])
    assert "a run is under way" in str(accepted.catch_up())
    accepted.instance.report_run_failed(first)
    assert "the next is tried at" in str(accepted.catch_up())
    monkeypatch.setattr(refreshing, "_BACKOFF", timedelta(0))
    (again,) = accepted.catch_up()
    assert (again.tags, again.run_key != request.run_key) == (request.tags, True)
    accepted.instance.handle_new_event(success_of(accepted.start(again)))
    assert accepted.catch_up() == "No day is held or missing."


def test_a_run_that_failed_on_a_day_that_is_still_held_waits_for_files_like_any_held_day(
    accepted: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refreshing, "_BACKOFF", timedelta(0))
    (request,) = accepted.catch_up()
    accepted.instance.report_run_failed(accepted.start(request))
    accepted.incidents.write([replace(i, state="open") for i in accepted.incidents.read_open()])
    assert accepted.catch_up() == f"Waiting for mended files of flights {DAY}."


def fingerprint(stand: Stand) -> str:
    from factory_assets.storage.landing import find_files, fingerprint_files

    return fingerprint_files(find_files(stand.folder / "landing", SOURCE, [str(DAY)]))


@pytest.mark.parametrize(("max_lag", "fresh"), [("36h", True), ("6h", False)])
def test_a_feed_is_as_fresh_as_its_newest_event(max_lag: str, fresh: bool, stand: Stand) -> None:
    declared = {**SOURCE.model_dump(exclude={"max_lag"}), "max_lag": max_lag, "event_time": "at"}
    columns = {"id": {"type": "bigint"}, "at": {"type": "timestamp"}}
    spec = SourceSpec.model_validate({**declared, "columns": columns, "incidents": {}})
    rows = pa.table({"id": [1], "at": pa.array([NOW - timedelta(hours=12)], UTC_TIMESTAMP)})
    Lake(str(stand.folder / "lake")).replace(TableSpec("bronze/flights", rows.schema, ("id",)), rows)
    _, check = build_source_checks(spec)
    result = check(lake=stand.resources["lake"], clock=stand.resources["clock"])
    assert (result.passed, result.metadata["lag_hours"].value) == (fresh, 12.0)
    assert [key.name for key in source_check_keys(spec)] == ["batches_are_sound", "data_freshness"]


def test_max_lag_without_an_event_time_is_no_declaration() -> None:
    with pytest.raises(ValueError, match="declare event_time"):
        SourceSpec.model_validate({**SOURCE.model_dump(exclude={"incidents"}), "max_lag": "36h"})


def test_the_check_of_the_source_lists_where_and_what(stand: Stand) -> None:
    (check, *_) = build_source_checks(SOURCE)
    stand.incidents.write([an_incident()])
    result = check(lake=stand.resources["lake"])
    assert not result.passed
    assert "data:image/png" in result.metadata["picture"].value
    (record,) = result.metadata["findings"].records
    assert record.data == {"day": str(DAY), "kind": "half_batch", "column": "", "rows": 400,
                           "expected": "about 980 rows", "found": "400 (41%)"}  # fmt: skip
    stand.incidents.write([replace(stand.incidents.read_open()[0], state="repaired")])
    assert check(lake=stand.resources["lake"]).passed
