"""The backend of worker processes on this machine.

They are forked by a plain command that has imported what they need, and spoken to over sockets, not through
`multiprocessing`: a pool there fails as a whole when one worker is killed, leaves its workers behind when its starter is,
and imports the starter's main module in each of them (docs/decisions/0023).
"""

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import send_handle
from pathlib import Path
from typing import Any, Generic, Self

import pyarrow as pa

from factory_assets.compute.chunks import Attempt, Backlog, Lost
from factory_assets.compute.fan_out import ChunkFunction, Item, Result

# Set before the libraries load: a limit set later does not stop OpenMP from making its threads, and what forks has none.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "ARROW_IO_THREADS": "1",
    "OMP_THREAD_LIMIT": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
# Arrays from 8 MiB on go back to the system when they are freed. Kept for the next one, which is seldom of their size, they
# made the fit of 2 million rows a fifth larger. Either threshold alone makes glibc give its heap back at each chance, and
# a thousand fits cost a sixth more.
_GIVE_BACK = {
    "MALLOC_MMAP_THRESHOLD_": str(2**23),
    "MALLOC_TRIM_THRESHOLD_": str(2**26),
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}

# A worker that dies before it could begin says nothing about its chunk, but so many in a row say that none can start.
_FAILED_STARTS = 3
_EXIT_SECONDS = 5.0


class WorkerStartError(RuntimeError):
    """Worker processes die before they begin: the machine, not the work, is at fault."""


class _Nursery:
    """The process that forks the workers of one job; should it die, the next worker comes from a new one."""

    def __init__(self, job: bytes) -> None:
        self._job = job
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it, and it ends its workers."""
        self._line.close()
        self.process.wait()

    def start_worker(self) -> "_Worker[Any]":
        """A worker; one that could not be made is a worker that is already dead."""
        if self.process.poll() is not None:
            self._line.close()
            self._start()
        ours, theirs = socket.socketpair()
        pid = 0
        with theirs, contextlib.suppress(EOFError, ConnectionError):
            self._line.send(None)
            send_handle(self._line, theirs.fileno(), self.process.pid)
            pid = self._line.recv()
        return _Worker(self, pid, Connection(ours.detach()))

    def end(self, pid: int, patience: float) -> int | None:
        """The exit code of a worker, which is killed if it has not ended after `patience` seconds; None: nobody knows."""
        try:
            self._line.send((pid, patience))
            code: int | None = self._line.recv()
        except (EOFError, ConnectionError):
            return self.process.wait() if pid == 0 else None
        return code

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "factory_assets.compute.worker", str(theirs.fileno())]
            environment = {**_GIVE_BACK, **os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            self.process = subprocess.Popen(
                command, env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._line = Connection(ours.detach())
        with contextlib.suppress(ConnectionError):
            self._line.send((sys.path, self._job))


@dataclass
class _Worker(Generic[Item]):
    """A process, the line to it, and what it is at."""

    nursery: _Nursery
    pid: int
    connection: Connection
    ready: bool = False
    attempt: Attempt[Item] | None = None
    finished: int = 0

    def take(self, attempt: Attempt[Item]) -> None:
        """Sends a chunk."""
        self.attempt, self.finished = attempt, 0
        # A worker that is already dead is found out when it is listened to.
        with contextlib.suppress(OSError):
            self.connection.send_bytes(pickle.dumps(attempt.items, 5))

    def stop(self) -> None:
        """Ends the process, whatever it is at."""
        self.connection.close()
        self.nursery.end(self.pid, 0.0)

    def bury(self) -> str:
        """Says how the process died, of which only the end of the line is known so far."""
        self.connection.close()
        return _describe_death(self.nursery.end(self.pid, _EXIT_SECONDS))


@dataclass
class _Crew(Generic[Item]):
    """The workers of one call, and what is still to do."""

    size: int
    nursery: _Nursery
    backlog: Backlog[Item]
    workers: list[_Worker[Item]] = field(default_factory=list)
    failed_starts: int = 0

    def work(self) -> Iterator[tuple[Item, Any]]:
        """Yields results until nothing is left to do."""
        while self.backlog.waiting or any(worker.attempt for worker in self.workers):
            self._give_work()
            busy = {worker.connection: worker for worker in self.workers if worker.attempt is not None}
            for connection in wait(list(busy)):
                yield from self._listen(busy[connection])  # type: ignore[index]

    def _give_work(self) -> None:
        for worker in self.workers:
            if worker.attempt is None and self.backlog.waiting:
                worker.take(self.backlog.waiting.popleft())
        while self.backlog.waiting and len(self.workers) < self.size:
            worker = self.nursery.start_worker()
            self.workers.append(worker)
            worker.take(self.backlog.waiting.popleft())

    def _listen(self, worker: _Worker[Item]) -> Iterator[tuple[Item, Any]]:
        """Hears one word of a worker that has something to say, or finds that it is dead."""
        assert worker.attempt is not None
        try:
            word, value = pickle.loads(worker.connection.recv_bytes())  # noqa: S301 (from a process started here)
        except (EOFError, OSError):
            yield from self._replace(worker, worker.attempt)
            return
        if word == "ready":
            worker.ready, self.failed_starts = True, 0
        elif word == "result":
            yield worker.attempt.items[worker.finished], value
            worker.finished += 1
        elif word == "done":
            worker.attempt = None
        else:
            error: Exception = pickle.loads(value[0])  # noqa: S301 (as above)
            error.add_note(f"In a worker process:\n{value[1]}")
            raise error

    def _replace(self, worker: _Worker[Item], attempt: Attempt[Item]) -> Iterator[tuple[Item, Lost[Item]]]:
        self.workers.remove(worker)
        death = worker.bury()
        if worker.ready:
            reason = f"{death}, and so did others under the same work"
            yield from ((lost.item, lost) for lost in self.backlog.put_back(attempt, worker.finished, reason))
            return
        self.failed_starts += 1
        if self.failed_starts == _FAILED_STARTS:
            raise WorkerStartError(
                f"{death} before it could begin, {_FAILED_STARTS} times in a row: look at its words above and at the free"
                " memory, or choose `executor: serial`"
            )
        self.backlog.waiting.appendleft(attempt)


@dataclass(frozen=True)
class ProcessFanOut:
    """Runs on `workers` processes of this machine, each with one thread and a map of the same table."""

    workers: int

    def map(
        self, function: ChunkFunction[Item, Result], chunks: Sequence[Sequence[Item]], table: pa.Table
    ) -> Iterator[tuple[Item, Result | Lost[Item]]]:
        """See `FanOut.map`."""
        with tempfile.TemporaryDirectory(prefix="factory-fan-out-") as folder:
            path = Path(folder) / "table.arrow"
            # It loads what the function needs while the table is written.
            with _Nursery(pickle.dumps((str(path), function), 5)) as nursery:
                with pa.ipc.new_file(path, table.schema) as writer:
                    writer.write_table(table)
                crew: _Crew[Item] = _Crew(self.workers, nursery, Backlog.of(chunks))
                try:
                    yield from crew.work()
                finally:
                    for worker in crew.workers:
                        worker.stop()


def _describe_death(exit_code: int | None) -> str:
    if exit_code is None:
        return "its worker process ended"
    if exit_code >= 0:
        return f"its worker process ended with exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    return f"its worker process was killed by {name}"
