"""Functions for workers: they must lie in a module that a worker can import."""

import importlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from threadpoolctl import threadpool_info

from factory_assets.core.training.segment_training import FitJob, SegmentResult, SegmentTask, fit_chunk

HEAVY = ("dagster", "mlflow", "dbt", "deltalake", "duckdb", "ray")


def sum_of(table: pa.Table, chunk: Sequence[str]) -> Iterator[float]:
    """The sum of `value` in each segment."""
    for segment in chunk:
        yield pc.sum(table.filter(pc.equal(table["segment"], segment))["value"]).as_py()


def die_at(guilty: str, table: pa.Table, chunk: Sequence[str]) -> Iterator[float]:
    """As `sum_of`; the process kills itself at the guilty segment."""
    for segment in chunk:
        if segment == guilty:
            os.kill(os.getpid(), signal.SIGKILL)
        yield from sum_of(table, [segment])


def die_without_a_word(guilty: str, table: pa.Table, chunk: Sequence[str]) -> list[float]:
    """As `die_at`, but nothing is given before the whole chunk is done."""
    return list(die_at(guilty, table, chunk))


def die_once(mark: Path, table: pa.Table, chunk: Sequence[str]) -> Iterator[float]:
    """The first process that comes to segment s3 dies there; each finished segment is written down beside the mark."""
    for segment in chunk:
        if segment == "s3" and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        with mark.with_name("finished").open("a") as finished:
            finished.write(f"{segment}\n")
        yield from sum_of(table, [segment])


def kill_the_nursery(mark: Path, table: pa.Table, chunk: Sequence[str]) -> Iterator[float]:
    """As `sum_of`; the first process that comes here kills the one that it was forked from."""
    if not mark.exists():
        mark.touch()
        os.kill(os.getppid(), signal.SIGKILL)
    yield from sum_of(table, chunk)


def die_with_the_nursery(mark: Path, table: pa.Table, chunk: Sequence[str]) -> Iterator[float]:
    """As `kill_the_nursery`; the process dies with it."""
    is_first = not mark.exists()
    yield from kill_the_nursery(mark, table, chunk[:1])
    if is_first:
        os.kill(os.getpid(), signal.SIGKILL)
    yield from sum_of(table, chunk[1:])


class Unloadable:
    """A function of a module that a worker does not find."""

    def __call__(self, table: pa.Table, chunk: Sequence[str]) -> Iterator[float]:
        """Never called."""
        raise NotImplementedError

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return importlib.import_module, ("no_such_module",)


def fit_but_die_once(mark: Path, job: FitJob, table: pa.Table, chunk: Sequence[SegmentTask]) -> Iterator[SegmentResult]:
    """As `fit_chunk`; the first process that comes to carrier DL dies there, after the fits before it."""
    for task in chunk:
        if task.node.segment == "DL" and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield from fit_chunk(job, table, [task])


def refuse(table: pa.Table, chunk: Sequence[str]) -> list[float]:
    """Raises."""
    raise KeyError(f"no column for {chunk[0]}")


def say_process(table: pa.Table, chunk: Sequence[str]) -> list[dict[str, object]]:
    """What the process is like that works on a segment."""
    pools = [pool["num_threads"] for pool in threadpool_info()]
    heavy = [name for name in HEAVY if name in sys.modules]
    about = {"pid": os.getpid(), "parent": os.getppid(), "pools": pools, "heavy": heavy}
    return [{**about, "omp": os.environ.get("OMP_NUM_THREADS"), "main": sys.modules["__main__"].__file__}] * len(chunk)


def say_then_wait(table: pa.Table, chunk: Sequence[str]) -> Iterator[int]:
    """Gives the process's number, and then works for ever."""
    yield os.getpid()
    while True:
        signal.pause()
