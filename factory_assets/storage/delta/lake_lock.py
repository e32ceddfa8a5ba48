"""One dbt build at a time on a local lake: the second waits, and then reads what the first has published.

The lock is the operating system's, so a build that is killed has let it go. It keeps builds from working in vain; what
keeps them from losing rows is the version that each commit is prepared for.
"""

import os
from pathlib import Path

from filelock import FileLock, Timeout

_NAME = ".dbt-build.lock"
_HELD: dict[Path, FileLock] = {}


class LakeBusyError(Exception):
    """Another build has the lake, and did not end in time."""


def take_lake(lake: Path, timeout_seconds: float) -> bool:
    """Takes the lake for this process, waiting for whoever has it; True when it had to wait.

    Taking it again is harmless. A lake that an earlier build of this process left taken is let go.

    Raises:
        LakeBusyError: naming the process that has it.
    """
    for other in [held for held in _HELD if held != lake]:
        release_lake(other)
    if lake in _HELD:
        return False
    lake.mkdir(parents=True, exist_ok=True)
    path = lake / _NAME
    lock = FileLock(path, thread_local=False)
    waited = False
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waited = True
            lock.acquire(timeout=timeout_seconds)
    except Timeout:
        raise LakeBusyError(
            f"another dbt build (process {_read_owner(path)}) has had the lake {lake} for more than "
            f"{timeout_seconds:g} seconds: wait for it, or end it, and build again"
        ) from None
    path.with_suffix(".pid").write_text(str(os.getpid()))
    _HELD[lake] = lock
    return waited


def release_lake(lake: Path | None = None) -> None:
    """Lets a lake go (every one, without a name); nothing happens when this process does not have it."""
    for held in [lake] if lake is not None else list(_HELD):
        lock = _HELD.pop(held, None)
        if lock is not None:
            lock.release()


def _read_owner(path: Path) -> str:
    try:
        return path.with_suffix(".pid").read_text()
    except OSError:
        return "unknown"
