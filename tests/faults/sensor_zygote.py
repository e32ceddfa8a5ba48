"""Imports everything once, then forks one child for each line on stdin: `COMMAND [CRASH]`; prints how the child ended.

A child has its own threads and engines: this process never touches the lake or Dagster's storage, so forking it is safe.
`tick` is one look of Dagster's sensor daemon, and is killed at CRASH; `judge` and `retrain` are the world.
"""

import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from uuid import uuid4

import dagster as dg
from dagster._core.errors import DagsterInvariantViolationError
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.sensor import execute_sensor_iteration

from factory_assets.components.model_line.checks import check_keys
from factory_assets.components.model_line.opening import open_stores
from factory_assets.components.model_line.retrain_runs import answer_request, claim_request, claimant_of
from factory_assets.contracts.retraining import Outcome
from factory_assets.core.retraining.claims import RequestClosedError
from factory_assets.storage.tables.retrain_ledger import RetrainLedger
from tests.faults.sensor_location import NOW, SPEC, build_resources
from tests.recorded import promote

_INTERVAL_SECONDS = 1
LOCATION = "tests.faults.sensor_location"


def tick(crash: str) -> None:
    time.sleep(_INTERVAL_SECONDS)  # a sensor does not tick more often than its interval
    target = InProcessWorkspaceLoadTarget(InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name=LOCATION), "faults"))
    _kill_around_the_ledger(crash)
    flags = {"delay__retraining_sensor": {crash: signal.SIGKILL}} if crash.isupper() else None
    with dg.DagsterInstance.get() as instance, create_test_daemon_workspace_context(target, instance) as workspace:
        look = partial(execute_sensor_iteration, workspace, logging.getLogger("faults"), None, None, debug_crash_flags=flags)
        try:
            list(look())
        except DagsterInvariantViolationError:
            # Of two daemons that see a sensor for the first time one comes too late to add its state, and looks again,
            # as the daemon's own loop does after an error.
            traceback.print_exc()
            list(look())


def _kill_around_the_ledger(crash: str) -> None:
    written = RetrainLedger.write

    def write(*args, **kwargs) -> bool:
        if crash == "before-ledger":
            os.kill(os.getpid(), signal.SIGKILL)
        done = written(*args, **kwargs)
        if crash == "after-ledger":
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    RetrainLedger.write = write


def judge(_: str) -> None:
    stores = open_stores(SPEC, build_resources()["lake"], build_resources()["mlflow"])
    if stores.versions.champion("delay") is None:
        promote(stores.lake, "delay", 1)
    key = check_keys(SPEC)["feature_drift"]
    metadata = {"champion_version": 1, "data_as_of": dg.MetadataValue.timestamp(NOW)}
    with dg.DagsterInstance.get() as instance:
        instance.report_runless_asset_event(dg.AssetCheckEvaluation(key.asset_key, key.name, False, metadata=metadata))


def retrain(state: str) -> None:
    """Every queued run does what the models asset does, except the fit; a run that may not says so."""
    stores = open_stores(SPEC, build_resources()["lake"], build_resources()["mlflow"])
    with dg.DagsterInstance.get() as instance:
        for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])):
            claimant = claimant_of("delay", run, ())
            try:
                claim_request(stores, claimant, NOW)
                if state == "failed":
                    raise RuntimeError("the fit went wrong")
                answer_request(stores, claimant, {"all": Outcome(state, "so said the gate", 1)}, NOW)
                instance.add_run(dg.DagsterRun("effective", str(uuid4()), tags={"of": run.run_id}))
            except (RequestClosedError, RuntimeError):
                instance.report_run_failed(run)
            else:
                instance.handle_new_event(_success(run))


def _success(run: dg.DagsterRun) -> dg.EventLogEntry:
    event = dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, run.job_name)
    return dg.EventLogEntry(
        error_info=None,
        level=20,
        user_message="",
        run_id=run.run_id,
        timestamp=0.0,
        job_name=run.job_name,
        dagster_event=event,
    )


COMMANDS: dict[str, Callable[[str], None]] = {"tick": tick, "judge": judge, "retrain": retrain}


def main() -> None:
    # Dagster logs to the standard output when two daemons are in each other's way.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    children: list[int] = []
    for line in sys.stdin:
        for part in line.strip().split("&"):  # children of one line run side by side
            command, _, argument = part.strip().partition(" ")
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    COMMANDS[command](argument)
                    code = 0
                except Exception:
                    traceback.print_exc()
                finally:
                    sys.stderr.flush()
                    os._exit(code)
            children.append(pid)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        children.clear()
        answers.write(" ".join(map(str, codes)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
