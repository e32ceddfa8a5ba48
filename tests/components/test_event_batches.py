import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg
import pytest
from dagster._core.storage.event_log import EventLogStorage, SqliteEventLogStorage
from sqlalchemy import event
from sqlalchemy.engine import Engine

from factory_assets.components import event_batches
from factory_assets.components.event_batches import batched_events, log_together
from factory_assets.components.naming import DATA_VERSION_TAG

CELLS = dg.AssetKey(["delay", "segments"])
SIZE = 10
TYPES = (dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_OBSERVATION)
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
LogAll = Callable[[dg.AssetExecutionContext, list[Any]], None]


@pytest.fixture(autouse=True)
def dagsters_own() -> Iterator[None]:
    """Each test begins and ends with the storage as Dagster has it."""
    own = patch.object(SqliteEventLogStorage, "store_event_batch", EventLogStorage.store_event_batch)
    with own, patch.object(event_batches, "MOST_AT_ONCE", SIZE):
        yield


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as found:
        yield found


def cells(size: int, sequence: int = 1) -> list[Any]:
    """Every third is an observation."""
    return [
        (dg.AssetObservation if number % 3 == 2 else dg.AssetMaterialization)(
            CELLS, partition=f"AA~{number}", metadata={"version": number}, tags={DATA_VERSION_TAG: str(sequence), "own": "x"}
        )
        for number in range(size)
    ]


def log_each(context: dg.AssetExecutionContext, events: list[Any]) -> None:
    for one in events:
        context.log_event(one)


def run(instance: dg.DagsterInstance, events: list[Any], log: LogAll = log_together) -> str:
    @dg.asset
    def models(context: dg.AssetExecutionContext) -> None:
        log(context, events)

    return dg.materialize([models], instance=instance, run_config=QUIET).run_id


def told(instance: dg.DagsterInstance) -> dict[str, Any]:
    """What the pages of the UI and the next run find of the cells."""
    storage = instance.event_log_storage
    found: dict[str, Any] = {
        kind.value: storage.get_latest_tags_by_partition(CELLS, kind, [DATA_VERSION_TAG]) for kind in TYPES
    }
    wanted = dg.AssetRecordsFilter(CELLS)
    for fetch in (instance.fetch_materializations, instance.fetch_observations):
        entries = [record.event_log_entry for record in fetch(wanted, limit=1000).records]
        details = [entry.asset_materialization or entry.asset_observation for entry in entries]
        found[fetch.__name__] = [(detail.partition, detail.metadata, detail.tags) for detail in details if detail]
    (asset,) = instance.get_asset_records([CELLS])
    newest = asset.asset_entry.last_materialization
    found["asset"] = newest and newest.get_dagster_event().partition
    return found


def logged(instance: dg.DagsterInstance, run_id: str) -> list[str | None]:
    entries = [entry.get_dagster_event() for kind in TYPES for entry in instance.all_logs(run_id, of_type=kind)]
    return [entry.partition for entry in entries if entry.asset_key == CELLS]


def test_a_batch_leaves_what_the_events_would_leave_one_by_one(tmp_path: Path) -> None:
    size = 2 * SIZE + 5
    left = []
    for name, log in (("each", log_each), ("together", log_together)):
        (tmp_path / name).mkdir()
        with dg.DagsterInstance.local_temp(str(tmp_path / name)) as instance:
            run_id = run(instance, cells(size), log)
            left.append((told(instance), logged(instance, run_id)))
    assert left[0] == left[1]
    assert len(left[0][1]) == size


def test_a_batch_opens_few_connections(instance: dg.DagsterInstance) -> None:
    opened: list[Any] = []

    def note(connection: Any, _record: Any) -> None:
        opened.append(connection)

    event.listen(Engine, "connect", note)
    run(instance, cells(100))
    few = len(opened)
    run(instance, cells(200))
    event.remove(Engine, "connect", note)
    more = len(opened) - few - few
    assert 0 < more <= 100 // SIZE * 4


@pytest.mark.parametrize("size", [0, 1, SIZE])
def test_any_number_of_events_is_stored(instance: dg.DagsterInstance, size: int) -> None:
    assert len(logged(instance, run(instance, cells(size)))) == size


def test_a_storage_without_batches_takes_them_one_by_one() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert len(logged(instance, run(instance, cells(25)))) == 25


def test_a_storage_that_lacks_a_part_or_has_its_own_way_is_left_as_it_is(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_batches, "_USED", ("gone",))
    assert len(logged(instance, run(instance, cells(25)))) == 25
    assert SqliteEventLogStorage.store_event_batch is EventLogStorage.store_event_batch
    monkeypatch.undo()
    kept = patch.object(SqliteEventLogStorage, "store_event_batch", autospec=True)
    with kept as own, batched_events():
        assert SqliteEventLogStorage.store_event_batch is own


def test_the_installations_own_size_stays(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "0")
    with batched_events():
        assert os.environ["DAGSTER_EVENT_BATCH_SIZE"] == "0"
    assert os.environ["DAGSTER_EVENT_BATCH_SIZE"] == "0"
    monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE")
    with batched_events():
        assert os.environ["DAGSTER_EVENT_BATCH_SIZE"] == str(SIZE)
    assert "DAGSTER_EVENT_BATCH_SIZE" not in os.environ


def test_a_batch_that_the_index_refuses_is_stored_event_by_event(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, refused = SqliteEventLogStorage._store_asset_event, []

    def refuse_once(storage: Any, connection: Any, entry: Any, number: int) -> None:
        if not refused and entry.get_dagster_event().asset_key == CELLS:
            refused.append(number)
            raise OSError("database is locked")
        store(storage, connection, entry, number)

    monkeypatch.setattr(SqliteEventLogStorage, "_store_asset_event", refuse_once)
    run(instance, cells(25))
    found = told(instance)
    assert refused
    assert len(found["fetch_materializations"]) + len(found["fetch_observations"]) == 25


def _log_and_die(home: str) -> None:
    log, before = dg.DagsterEvent.asset_materialization, []

    def log_or_die(*args: Any) -> Any:
        if len(before) == SIZE + 5:
            os.kill(os.getpid(), signal.SIGKILL)
        before.append(log(*args))

    event_batches.MOST_AT_ONCE = SIZE
    with dg.DagsterInstance.local_temp(home) as instance, patch.object(dg.DagsterEvent, "asset_materialization", log_or_die):
        run(instance, cells(3 * SIZE))


def test_a_killed_process_has_shown_whole_batches(tmp_path: Path) -> None:
    writer = multiprocessing.get_context("spawn").Process(target=_log_and_die, args=(str(tmp_path),))
    writer.start()
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        found = told(instance)
    assert len(found["ASSET_MATERIALIZATION"]) == len(found["fetch_materializations"]) == SIZE
    assert found["ASSET_OBSERVATION"] == {}
