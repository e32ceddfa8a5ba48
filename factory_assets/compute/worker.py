"""The other end of `processes.py`: `python -m factory_assets.compute.worker FD` forks workers until its starter hangs up.

It imports what the function needs and nothing else: no Dagster, no MLflow, no dbt, and not the starter's main module. It
does so once for all workers, and starts no thread.
"""

import contextlib
import gc
import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from pathlib import Path
from typing import Any

import pyarrow as pa
from threadpoolctl import threadpool_limits

from factory_assets.compute.mapped_table import MappedTable, map_table

# What a fit has read of the rows is its own by then; the model of all rows reads all of them, and then works for long.
_FORGET_SECONDS = 1.0
_LOOK_SECONDS = 0.01


def main(descriptor: int) -> None:
    """Loads the job, and with it the modules that it needs; forks workers, and is one itself where it was forked."""
    starter = Connection(descriptor)
    sys.path[:], job = starter.recv()
    # What cannot be loaded is said by the first worker.
    with contextlib.suppress(Exception):
        pickle.loads(job)  # noqa: S301 (from the process that started this one)
    # Pages that the collector does not write to stay shared.
    gc.freeze()
    line = _fork_workers(starter)
    if line is not None:
        work(Connection(line), job)


def _fork_workers(starter: Connection) -> int | None:
    """In each worker, its line to the starter; None where the starter has hung up, after the workers were ended."""
    workers: set[int] = set()
    try:
        while True:
            dismissed = starter.recv()
            if dismissed is not None:
                pid, patience = dismissed
                starter.send(_end(pid, patience) if pid in workers else None)
                workers.discard(pid)
                continue
            line = recv_handle(starter)
            pid = os.fork()
            if pid == 0:
                starter.close()
                return line
            os.close(line)
            workers.add(pid)
            starter.send(pid)
    except (EOFError, ConnectionError):
        for pid in workers:
            _end(pid, 0.0)
        return None


def _end(pid: int, patience: float) -> int:
    """The exit code of a worker, which is killed if it has not ended after `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            os.kill(pid, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        time.sleep(_LOOK_SECONDS)


def work(connection: Connection, job: bytes) -> None:
    """Reads chunk after chunk, and answers each with its results and a final word."""
    frames: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, frames), daemon=True).start()
    try:
        table_path, function = pickle.loads(job)  # noqa: S301 (from the process that started this one)
    except Exception as error:  # the starter raises it
        connection.send_bytes(_raised(error))
        return
    # The map stays open as long as the process: a slice of the table is a view of the file.
    with Path(table_path).open("rb") as file:
        rows = map_table(file)
    threading.Thread(target=_forget, args=(rows,), daemon=True).start()
    connection.send_bytes(pickle.dumps(("ready", None), 5))
    # What the imports made stays for good: the collector need not walk it after every few fits.
    gc.freeze()
    with threadpool_limits(limits=1):
        while True:
            _answer(connection, function, rows.table, frames.get())


def _answer(connection: Connection, function: Any, table: pa.Table, frame: bytes) -> None:
    """Sends each result as soon as it is there: what was sent survives the death of this process."""
    try:
        for result in function(table, pickle.loads(frame)):  # noqa: S301 (from the process that started this one)
            connection.send_bytes(pickle.dumps(("result", result), 5))
        connection.send_bytes(pickle.dumps(("done", None), 5))
    except Exception as error:  # the starter raises it
        connection.send_bytes(_raised(error))


def _forget(rows: MappedTable) -> None:
    """Lets go, time and again, of the memory that looking at the rows took; the next look maps them again."""
    while True:
        time.sleep(_FORGET_SECONDS)
        rows.forget()


def _listen(connection: Connection, frames: "queue.SimpleQueue[bytes]") -> None:
    """Passes frames on; when the starter is gone, even by kill -9, the half-done chunk is of use to nobody."""
    try:
        while True:
            frames.put(connection.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)


def _raised(error: Exception) -> bytes:
    told = "".join(traceback.format_exception(error))
    try:
        carried: Any = pickle.dumps(error, 5)
        pickle.loads(carried)  # noqa: S301 (some exceptions are written and cannot be read again)
    except Exception:  # an exception that cannot travel is told instead
        carried = pickle.dumps(RuntimeError(repr(error)), 5)
    return pickle.dumps(("raised", (carried, told)), 5)


if __name__ == "__main__":
    main(int(sys.argv[1]))
