"""The factory's side: runs of the line's real models asset, with Dagster's and MLflow's real stores.

`python -m benchmarks.fleet.factory FOLDER SEGMENTS ESTIMATOR [PHASE…]`, phases of: cycle, memory (a
cycle that is watched), nothing, few (some segments changed, and are asked for), changed (some did, and the whole line is
asked for). Everything that a
code location has loaded before a run starts is loaded before the clock does.
"""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from benchmarks.fleet.memory import PeakMemory
from benchmarks.fleet.work import LINE, Estimator, Work, change_segments, pick_segments, read_flights
from benchmarks.loop.meter import Meter
from factory_assets.components.model_line.training import build_models_asset
from factory_assets.components.naming import models_step
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.resources import build_resources
from factory_assets.settings import FactorySettings

CHANGED_SEGMENTS = 20
_QUIET: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
# By how much the temperature of the changed segments is moved.
_DEGREES = {"few": 1.0, "changed": 2.0}


def open_run(work: Work) -> Callable[[], Any]:
    """A function that runs the line's models asset once, in this process, as the retrain job's executor does."""
    settings = FactorySettings(data_dir=work.folder)
    settings.dagster_home.mkdir(exist_ok=True)
    instance = dg.DagsterInstance.from_config(_write_config(settings.dagster_home))
    # Days before the calendar's end hold predictions; without any, only the training is measured.
    calendar = CalendarSpec(start=date(2015, 1, 1))
    models = build_models_asset(work.spec, calendar)
    run = partial(dg.materialize, models if isinstance(models, list) else [models], instance=instance)
    return partial(run, resources=build_resources(settings), raise_on_error=True)


def main(folder: str, segments: str, estimator: Estimator, *phases: str) -> None:
    """Runs the phases one after the other."""
    meter = Meter()
    work = Work(Path(folder), int(segments), estimator)
    _load()
    run = open_run(work)
    work.open_stores().registry.client()
    for phase in phases or ("cycle",):
        config = _QUIET
        if phase in _DEGREES:
            flights = pick_segments(read_flights(), work.segments)
            changed = change_segments(work, flights, CHANGED_SEGMENTS, _DEGREES[phase])
            # As the sensor asks for the segments that drifted.
            chosen = {"ops": {models_step(LINE): {"config": {"segments": changed}}}}
            config = {**_QUIET, **(chosen if phase == "few" else {})}
        # Looking at the memory costs CPU, so it is done where only that is asked for.
        with PeakMemory() if phase == "memory" else nullcontext() as memory, meter.stage(phase, "total"):
            run(run_config=config)
        meter.facts[f"{phase} peak bytes"] = memory.peak_bytes if memory is not None else 0
        meter.facts[f"{phase} versions"] = _count_versions(work)
    meter.facts["metrics"] = _metrics(work)
    meter.save(work.folder / "factory.json")


def _load() -> None:
    """Imports what a code location that has run before has imported."""
    import mlflow.pyfunc  # noqa: F401
    from dagster._core.storage.event_log.sqlite import sqlite_event_log
    from dagster._core.storage.runs.sqlite import sqlite_run_storage
    from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage

    import factory_assets.lines.training  # noqa: F401
    from factory_assets.storage.sqlite_files import ease_sqlite

    # As the definitions do, for the same storages.
    ease_sqlite(sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage)


def _write_config(home: Path) -> str:
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    return str(home)


def _count_versions(work: Work) -> int:
    pinned = work.open_stores().lake.find("ops/model_versions")
    return pinned.row_count if pinned else 0


def _metrics(work: Work) -> dict[str, float]:
    """Each segment's metric at its first training."""
    stores = work.open_stores()
    rows = stores.lake.query(
        "select segment, arg_min(value, version) as value from t where line = ? group by all",
        [LINE],
        t=stores.lake.pin("ops/model_versions"),
    )
    return dict(zip(rows["segment"].to_pylist(), rows["value"].to_pylist(), strict=True))


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
