"""The Dagster processes on one data folder: one owner at a time, and nothing left behind by a killed one."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import dagster as dg
from filelock import FileLock, Timeout

from factory_assets.components.naming import LOST_TAG
from factory_assets.components.run_states import UNFINISHED
from factory_assets.settings import FactorySettings

_PR_SET_PDEATHSIG = 1
_GROUP_FILE = "processes.pgid"


class DataFolderInUseError(RuntimeError):
    """Another factory process owns the data folder."""


class PortTakenError(RuntimeError):
    """Something else listens where a server was to."""


def require_free_port(port: int) -> None:
    """A web server that cannot listen ends in the midst of a log, with a daemon that goes on beside it or with success.

    Raises:
        PortTakenError: naming the port.
    """
    with socket.socket() as probe:
        # As servers do: a port that was closed a moment ago is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PortTakenError(
                f"port {port} of 127.0.0.1: {error.strerror}. Stop what listens there, or name another with --port"
            ) from error


@contextmanager
def own_data_folder(settings: FactorySettings) -> Iterator[None]:
    """Holds the data folder for this process, and clears what a killed owner left running.

    Two daemons on one Dagster home would launch runs twice over, so there is one owner.

    Raises:
        DataFolderInUseError: naming the folder.
    """
    settings.dagster_home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(settings.data / "factory.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise DataFolderInUseError(
            f"another factory process (`make dev` or `make demo`) works on {settings.data}: stop it first"
        ) from error
    try:
        stop_leftovers(settings)
        yield
    finally:
        lock.release()


def stop_leftovers(settings: FactorySettings) -> None:
    """Kills the process group that the last owner started, if any of it still lives."""
    record = settings.dagster_home / _GROUP_FILE
    try:
        group = int(record.read_text())
    except (FileNotFoundError, ValueError):
        return
    if any(_is_dagster(pid) for pid in living_members(group)):
        os.killpg(group, signal.SIGKILL)
        while any(_is_dagster(pid) for pid in living_members(group)):
            time.sleep(0.05)
    record.unlink(missing_ok=True)


def mark_lost_runs(instance: dg.DagsterInstance) -> list[str]:
    """Ends the runs that a killed owner of the data folder left unfinished, and returns their ids.

    Only for the owner of the folder, before it starts anything: then no process of these runs is alive.
    """
    lost = []
    for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)):
        # A killed run keeps its place in a pool, and whoever needs the pool would wait for it for ever.
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        instance.add_run_tags(run.run_id, {LOST_TAG: "true"})
        instance.report_run_failed(run, "the factory was shut down under this run")
        lost.append(str(run.run_id))
    return lost


def start_daemon(settings: FactorySettings) -> subprocess.Popen[bytes]:
    """Starts a real Dagster daemon, its output in `daemon.log`."""
    with (settings.dagster_home / "daemon.log").open("ab") as log:
        return start_dagster(settings, ["dagster-daemon", "run", "-w", "workspace.yaml"], log)


def start_dagster(
    settings: FactorySettings, command: Sequence[str], output: IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """Starts a command of Dagster's in a process group of its own, which dies with this process or with the next owner."""
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name(command[0])), *command[1:]],
        cwd=settings.project_dir,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        preexec_fn=_die_with_parent,  # noqa: PLW1509 (this process has one thread)
    )
    (settings.dagster_home / _GROUP_FILE).write_text(str(process.pid))
    return process


def stop_dagster(settings: FactorySettings, process: subprocess.Popen[bytes]) -> None:
    """Stops the process and everything it started."""
    stop_leftovers(settings)
    process.kill()
    process.wait()


def _die_with_parent() -> None:
    # A background shell starts children with SIGINT ignored, and Dagster maps SIGTERM to SIGINT's handler.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def living_members(group: int) -> list[int]:
    """Living processes of a group; zombies do not count."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(entry.parent.name))
    return found


def _is_dagster(pid: int) -> bool:
    try:
        return b"dagster" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
