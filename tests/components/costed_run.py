"""One whole run as in production: asked for by one process, done by another, which is forked with its imports done.

dbt builds two tables, a fleet is trained on worker processes, its check is judged. `python -m tests.components.costed_run
FOLDER`, where the folder has the dbt project `project`; writes `used.json` there: what the kernel says of the run's process,
and `late_packages.json`: of which packages it imported modules itself.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from resource import struct_rusage

import dagster as dg
import psutil
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run

from factory_assets.components.dbt_assets import build_dbt_assets
from factory_assets.components.dbt_project import build_runs
from factory_assets.components.model_line.fleet import build_failed_segments_check
from factory_assets.components.model_line.training import build_models_asset, build_training_set_asset
from factory_assets.components.naming import models_step
from factory_assets.components.warm_runs import PRELOADED
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.lines import fitting
from factory_assets.resources import build_resources
from factory_assets.settings import FactorySettings
from factory_assets.storage.clock import FactoryClock
from factory_assets.storage.delta.lake import Lake
from tests.lines.conftest import START
from tests.lines.fleet_fixture import DAYS, RULES, fleet_spec, write_fleet

SPEC = fleet_spec(executor="processes")


def main(folder: Path) -> None:
    """Each step in a process of its own: none inherits the threads of another."""
    # So few segments would be fitted where they are.
    fitting._LEAST_TO_FAN_OUT = 1
    for module in PRELOADED:
        importlib.import_module(module)
    for step in (write_inputs, ask_for_run, do_run):
        used, peak = _in_a_process(step, folder)
    measured = {"cpu_seconds": used.ru_utime + used.ru_stime, "peak_memory_bytes": peak}
    (folder / "used.json").write_text(json.dumps(measured))


def write_inputs(folder: Path) -> None:
    """The lake of the fleet, and an instant at which all its labels are known."""
    settings = FactorySettings(data_dir=folder)
    FactoryClock(settings.clock).set(START + timedelta(days=DAYS))
    write_fleet(Lake(settings.lake))
    settings.dagster_home.mkdir()
    (settings.dagster_home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")


def ask_for_run(folder: Path) -> None:
    """As a daemon does, or a person in the UI."""
    config = {"ops": {models_step(SPEC.name): {"config": {"segments": list(RULES)}}}}
    with _open_instance(folder) as instance:
        instance.create_run_for_job(_build_job(folder), run_config=config)


def do_run(folder: Path) -> None:
    """As the code server's process for a run does."""
    imported = set(sys.modules)
    with _open_instance(folder) as instance:
        (run,) = instance.get_runs()
        execute_run(InMemoryJob(_build_job(folder)), run, instance, raise_on_error=True)
    late = {name.split(".")[0] for name in set(sys.modules) - imported}
    (folder / "late_packages.json").write_text(json.dumps(sorted(late)))


def _build_job(folder: Path) -> dg.JobDefinition:
    calendar = CalendarSpec(start=date(2015, 1, 1))  # begins after any day that could be scored
    assets = [build_dbt_assets(build_runs(folder / "project"), {}), build_training_set_asset(SPEC)]
    definitions = dg.Definitions(
        assets=[*assets, build_models_asset(SPEC, calendar)],
        asset_checks=[build_failed_segments_check(SPEC)],
        jobs=[dg.define_asset_job("everything")],
        resources=build_resources(FactorySettings(data_dir=folder)),
        executor=dg.in_process_executor,
    )
    return definitions.resolve_job_def("everything")


def _open_instance(folder: Path) -> dg.DagsterInstance:
    return dg.DagsterInstance.from_config(str(FactorySettings(data_dir=folder).dagster_home))


def _in_a_process(step: Callable[[Path], None], folder: Path) -> tuple[struct_rusage, int]:
    """What the kernel says of the process, and the most memory that it was seen with, in bytes.

    The kernel's own peak is no use: the meter sets it back at each piece of work.
    """
    pid = os.fork()
    if pid == 0:
        step(folder)
        os._exit(0)
    process, peak, ended = psutil.Process(pid), 0, 0
    while not ended:
        peak = max(peak, process.memory_info().rss)
        time.sleep(0.005)
        ended, status, used = os.wait4(pid, os.WNOHANG)
    if status:
        raise SystemExit(f"{step.__name__} failed")
    return used, peak


if __name__ == "__main__":
    main(Path(sys.argv[1]))
