"""The Dagster processes on one data folder: one owner at a time, and nothing left behind by a killed one."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from factory_assets.settings import FactorySettings

_PR_SET_PDEATHSIG = 1
_GROUP_FILE = "processes.pgid"


class DataFolderInUseError(RuntimeError):
    """Another factory process owns the data folder."""


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
    if any(_is_dagster(pid) for pid in _members(group)):
        os.killpg(group, signal.SIGKILL)
        while any(_is_dagster(pid) for pid in _members(group)):
            time.sleep(0.05)
    record.unlink(missing_ok=True)


def start_daemon(settings: FactorySettings) -> subprocess.Popen[bytes]:
    """Starts a real Dagster daemon in a process group of its own; it dies with this process."""
    home = settings.dagster_home
    log = (home / "daemon.log").open("ab")
    command = [str(Path(sys.executable).with_name("dagster-daemon")), "run", "-w", "workspace.yaml"]
    process = subprocess.Popen(
        command,
        cwd=settings.project_dir,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        preexec_fn=_die_with_parent,  # noqa: PLW1509 (this process has one thread)
    )
    (home / _GROUP_FILE).write_text(str(process.pid))
    return process


def stop_daemon(settings: FactorySettings, process: subprocess.Popen[bytes]) -> None:
    """Stops the daemon and everything it started."""
    stop_leftovers(settings)
    process.kill()
    process.wait()


def _die_with_parent() -> None:
    # A background shell starts children with SIGINT ignored, and Dagster maps SIGTERM to SIGINT's handler.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _members(group: int) -> list[int]:
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
