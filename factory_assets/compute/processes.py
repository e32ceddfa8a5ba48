"""The backend of worker processes on this machine.

They are started as plain commands and spoken to over a socket, not through `multiprocessing`: a pool there fails as a whole
when one worker is killed, leaves its workers behind when its starter is, and imports the starter's main module
in each of them (docs/decisions/0023).
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
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic

import pyarrow as pa

from factory_assets.compute.chunks import Attempt, Backlog, Lost
from factory_assets.compute.fan_out import ChunkFunction, Item, Result

# Set before the libraries load: a limit set later does not stop OpenMP from making its threads.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ARROW_IO_THREADS", "OMP_THREAD_LIMIT"), "1"
)
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


@dataclass
class _Worker(Generic[Item]):
    """A process, the line to it, and what it is at."""

    process: subprocess.Popen[bytes]
    connection: Connection
    ready: bool = False
    attempt: Attempt[Item] | None = None
    finished: int = 0

    def take(self, attempt: Attempt[Item]) -> None:
        """Sends a chunk."""
        self.attempt, self.finished = attempt, 0
        self.send(pickle.dumps(attempt.items, 5))

    def send(self, frame: bytes) -> None:
        """Sends what it waits for; a worker that is already dead is found out when it is listened to."""
        with contextlib.suppress(OSError):
            self.connection.send_bytes(frame)

    def stop(self) -> None:
        """Ends the process, whatever it is at."""
        self.connection.close()
        self.process.kill()
        self.process.wait()

    def bury(self) -> str:
        """Says how the process died, of which only the end of the line is known so far."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_EXIT_SECONDS)
        self.stop()
        return _describe_death(self.process.returncode)


@dataclass
class _Crew(Generic[Item]):
    """The workers of one call, and what is still to do."""

    size: int
    job: bytes
    backlog: Backlog[Item]
    workers: list[_Worker[Item]] = field(default_factory=list)
    failed_starts: int = 0

    def engage(self, worker: _Worker[Item]) -> None:
        """Gives a worker the job, and a place here."""
        worker.send(self.job)
        self.workers.append(worker)

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
            self.engage(_start_worker())
            self.workers[-1].take(self.backlog.waiting.popleft())

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
    _early: list[_Worker[Any]] = field(default_factory=list)

    @contextmanager
    def started_early(self, *modules: str) -> Iterator["ProcessFanOut"]:
        """The same fan-out, whose workers import `modules` while its user is still getting the rows."""
        early = [_start_worker(modules) for _ in range(self.workers)]
        try:
            yield replace(self, _early=early)
        finally:
            for worker in early:
                worker.stop()

    def map(
        self, function: ChunkFunction[Item, Result], chunks: Sequence[Sequence[Item]], table: pa.Table
    ) -> Iterator[tuple[Item, Result | Lost[Item]]]:
        """See `FanOut.map`."""
        with tempfile.TemporaryDirectory(prefix="factory-fan-out-") as folder:
            path = Path(folder) / "table.arrow"
            with pa.ipc.new_file(path, table.schema) as writer:
                writer.write_table(table)
            crew: _Crew[Item] = _Crew(self.workers, pickle.dumps((str(path), function), 5), Backlog.of(chunks))
            while self._early:
                crew.engage(self._early.pop())
            try:
                yield from crew.work()
            finally:
                for worker in crew.workers:
                    worker.stop()


def _start_worker(modules: Sequence[str] = ()) -> _Worker[Any]:
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", "factory_assets.compute.worker", str(theirs.fileno())]
        environment = {**_GIVE_BACK, **os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        process = subprocess.Popen(
            command, env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
        )
    worker: _Worker[Any] = _Worker(process, Connection(ours.detach()))
    worker.send(pickle.dumps((sys.path, modules), 5))
    return worker


def _describe_death(exit_code: int) -> str:
    if exit_code >= 0:
        return f"its worker process ended with exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    return f"its worker process was killed by {name}"
