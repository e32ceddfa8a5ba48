"""The events of a step that logs many of them, stored a hundred at once.

Dagster stores the event of an asset by seven statements over three connections, two of which only look at its own tables. It
can store a batch of events at once, and its PostgreSQL storage does. Its SQLite storage takes a batch apart again, so here
it gets what the other has.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import uuid4

import dagster as dg
from dagster._core.events import ASSET_EVENTS, DagsterEventBatchMetadata
from dagster._core.storage.event_log import EventLogStorage, SqliteEventLogStorage

# A killed process has logged fewer than these without storing them.
MOST_AT_ONCE = 100
_BATCH_SWITCH = "DAGSTER_EVENT_BATCH_SIZE"
_USED = ("prepare_insert_event", "run_connection", "index_transaction", "_store_asset_event_tags", "_store_asset_event")


def log_together(context: dg.AssetExecutionContext, events: Sequence[dg.AssetMaterialization | dg.AssetObservation]) -> None:
    """Logs each event as `context.log_event` does, materializations first; when it returns, all are stored.

    The result of a run that is executed in this process does not list them, its event log does.
    """
    step = context.get_step_execution_context()
    # PostgreSQL's storage takes apart what is of two types.
    made = [event for event in events if isinstance(event, dg.AssetMaterialization)]
    seen = [event for event in events if isinstance(event, dg.AssetObservation)]
    with batched_events():
        for materialization, part in zip(made, _parts(len(made)), strict=True):
            dg.DagsterEvent.asset_materialization(step, materialization, part)
        for observation, part in zip(seen, _parts(len(seen)), strict=True):
            dg.DagsterEvent.asset_observation(step, observation, part)


@contextmanager
def batched_events() -> Iterator[None]:
    """Dagster stores a batch at once, in the size that the installation chose for itself or else in this one."""
    _ease_batches(SqliteEventLogStorage)
    with switched(_BATCH_SWITCH, os.environ.get(_BATCH_SWITCH, str(MOST_AT_ONCE))):
        yield


@contextmanager
def switched(name: str, value: str | None) -> Iterator[None]:
    """A switch that Dagster reads from the environment, set or taken away, and afterwards as the installation has it."""
    chosen = os.environ.get(name)
    _set_variable(name, value)
    try:
        yield
    finally:
        _set_variable(name, chosen)


def _set_variable(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def store_batch(storage: SqliteEventLogStorage, events: Sequence[dg.EventLogEntry]) -> None:
    """Stores a run's events in a transaction of the run's file, and then in one of the index over all runs.

    The same rows as Dagster's `store_event` leaves, in its order; an asset's own row is overwritten by each event of a type,
    so only the newest gets there.
    """
    if not all(event.dagster_event_type in ASSET_EVENTS for event in events):
        return EventLogStorage.store_event_batch(storage, events)
    inserts = [storage.prepare_insert_event(event) for event in events]
    with storage.run_connection(events[0].run_id) as connection:
        for insert in inserts:
            connection.execute(insert)
    with storage.index_transaction() as connection:
        numbers = [connection.execute(insert).lastrowid for insert in inserts]
        storage._store_asset_event_tags(connection, events, numbers)
        newest = {(event.get_dagster_event().asset_key, event.dagster_event_type): at for at, event in enumerate(events)}
        for at in sorted(newest.values()):
            storage._store_asset_event(connection, events[at], numbers[at])
    return None


def _parts(size: int) -> Iterator[DagsterEventBatchMetadata]:
    batch = uuid4().hex
    return (DagsterEventBatchMetadata(batch, is_end=position == size) for position in range(1, size + 1))


def _ease_batches(storage: type[SqliteEventLogStorage]) -> None:
    """A storage with a way of its own to store a batch, or without what is used here, is left as it is."""
    if storage.store_event_batch is EventLogStorage.store_event_batch and all(hasattr(storage, part) for part in _USED):
        storage.store_event_batch = store_batch  # type: ignore[method-assign,assignment]
