"""Runs that a code server forks: from a process with its imports done, and in all else as those that it spawned."""

import importlib.util
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from dagster._grpc.server import DagsterApiServer

from factory_assets.components.warm_runs import PRELOADED, is_code_server, start_runs_warm

ROOT = Path(__file__).parents[2]
# A module of its own, as the target of a process has to be found by its name.
_SERVER = """
import gc, json, multiprocessing, os, sys

def run(queue, stop):
    frozen, imported = gc.get_freeze_count(), set(sys.modules)
    import factory_assets.definitions
    job = factory_assets.definitions.defs().resolve_job_def("arrival_delay__retrain")
    late = sorted({name.split(".")[0] for name in set(sys.modules) - imported})
    pids = [os.getpid(), multiprocessing.parent_process().pid]
    queue.put([frozen, late, os.environ["FACTORY_DATA_DIR"], job.name, *pids])
    stop.wait(60)
    sys.exit(7 if stop.is_set() else 8)

if __name__ == "__main__":
    sys.argv = ["dagster", "api", "grpc"]
    from factory_assets.components.warm_runs import start_runs_warm
    context = multiprocessing.get_context("spawn")  # as Dagster's server, which holds it before any code is loaded
    assert start_runs_warm() and start_runs_warm()
    queue, stop = context.Queue(), context.Event()
    process = context.Process(target=run, args=[queue, stop])
    process.start()
    seen = queue.get(timeout=300)
    alive = process.is_alive()
    stop.set()
    process.join(60)
    print(json.dumps([*seen, process.pid, os.getpid(), alive, process.exitcode]))
"""


def test_a_run_is_forked_with_its_imports_done_and_is_heard_stopped_and_ended_as_before(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(_SERVER)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(tmp_path / "server.py")],
        env={**os.environ, "FACTORY_DATA_DIR": str(tmp_path / "data"), "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    frozen, late, data_dir, job, seen_pid, parent, pid, server, alive, exit_code = json.loads(done.stdout.splitlines()[-1])
    assert frozen > 100_000
    assert not {"dagster_dbt", "dbt", "duckdb", "mlflow", "sklearn", "sqlglot"}.intersection(late)
    assert (data_dir, job) == (str(tmp_path / "data"), "arrival_delay__retrain")
    assert (seen_pid, alive, exit_code) == (pid, True, 7)
    assert parent == server  # who waits for it, though the fork server is who forked it


@pytest.mark.parametrize("module", PRELOADED)
def test_what_is_imported_before_is_there(module: str) -> None:
    """The fork server passes over what is not."""
    assert importlib.util.find_spec(module) is not None


def test_elsewhere_than_in_a_code_server_nothing_is_changed() -> None:
    assert not start_runs_warm()
    assert is_code_server(["/x/dagster/__main__.py", "api", "grpc", "--lazy-load-user-code"])
    assert is_code_server(["dagster", "code-server", "start"])
    assert not is_code_server(["dagster-daemon", "run"])


def test_this_minor_version_of_dagster_starts_runs_through_the_context_for_spawning() -> None:
    assert '_mp_ctx = multiprocessing.get_context("spawn")' in inspect.getsource(DagsterApiServer.__init__)
    assert "self._mp_ctx.Process(" in inspect.getsource(DagsterApiServer.StartRun)
