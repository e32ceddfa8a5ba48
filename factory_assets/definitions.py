"""The code location: every declaration below `defs/`, bound to this installation's resources."""

from pathlib import Path

import dagster as dg

# No public name; a test says when they have gone, and without them only time is lost.
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage

from factory_assets.components.tree import TolerantTree
from factory_assets.resources import build_resources
from factory_assets.settings import FactorySettings
from factory_assets.storage.sqlite_files import ease_sqlite


@dg.definitions
def defs() -> dg.Definitions:
    """The definitions of this package."""
    return build_definitions(Path(__file__).parent, FactorySettings())


def build_definitions(package: Path, settings: FactorySettings) -> dg.Definitions:
    """Everything declared in `package`/defs. Loads offline: nothing connects, reads a table or logs in."""
    ease_sqlite(sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage)
    bound = dg.Definitions(resources=build_resources(settings), executor=dg.in_process_executor)
    return TolerantTree.for_project(package).build_all(bound)
