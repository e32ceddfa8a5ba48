"""The backend of a Ray cluster. The one module that imports Ray, and only when it is used."""

import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pyarrow as pa

from factory_assets.compute.chunks import Attempt, Backlog, Lost
from factory_assets.compute.fan_out import ChunkFunction, Item, Result

# So many chunks a worker wait at Ray: a cluster that grows finds work, and a lost node loses little.
_QUEUED_A_WORKER = 2


class RayMissingError(ModuleNotFoundError):
    """`executor: ray` is declared, and Ray is not installed."""


class RayAddressError(ValueError):
    """`executor: ray` is declared, and nothing says where the cluster is."""


@dataclass(frozen=True)
class RayFanOut:
    """Runs as tasks of one core each on the cluster at `address`, all of its cores at once.

    A cluster is never started here: Ray's servers listen on every interface, and that is for a person to decide. The nodes
    have this package installed, in the same versions as here. Tasks are never tried again by Ray itself: what a dead worker
    leaves behind is this module's to give out again, so that a segment that kills is found.
    """

    address: str

    def map(
        self, function: ChunkFunction[Item, Result], chunks: Sequence[Sequence[Item]], table: pa.Table
    ) -> Iterator[tuple[Item, Result | Lost[Item]]]:
        """See `FanOut.map`."""
        backlog = Backlog.of(chunks)
        if not backlog.waiting:
            return
        with _connected(self.address) as ray:
            # Both are put once: a node fetches them once, and its workers read the table in place.
            shared = [ray.put(table), ray.put(pickle.dumps(function, 5))]
            task = ray.remote(num_cpus=1, max_retries=0, num_returns="streaming")(run_chunk)
            slots = max(1, int(ray.cluster_resources().get("CPU", 1))) * _QUEUED_A_WORKER
            running: dict[Any, _Running[Item]] = {}
            try:
                while backlog.waiting or running:
                    while backlog.waiting and len(running) < slots:
                        attempt = backlog.waiting.popleft()
                        running[task.remote(*shared, attempt.items)] = _Running(attempt)
                    ready, _ = ray.wait(list(running), num_returns=1)
                    yield from _listen(ray, ready[0], running, backlog)
            finally:
                for stream in running:
                    ray.cancel(stream, force=True)


def run_chunk(table: pa.Table, job: bytes, chunk: Sequence[Any]) -> Iterator[Any]:
    """What a task does: each result goes out as soon as it is there, as bytes like those of a worker process."""
    from threadpoolctl import threadpool_limits

    function = pickle.loads(job)  # noqa: S301 (from the driver that started this task)
    # Through bytes once more: which equal strings are one object decides the bytes of a model.
    arrived = pickle.loads(pickle.dumps(tuple(chunk), 5))  # noqa: S301 (written in the same line)
    with threadpool_limits(limits=1):
        for result in function(table, arrived):
            yield pickle.dumps(result, 5)


@dataclass
class _Running(Attempt[Item]):
    """A chunk that is at the cluster."""

    finished: int = 0

    def __init__(self, attempt: Attempt[Item]) -> None:
        super().__init__(attempt.items, attempt.deaths)


def _listen(
    ray: ModuleType, stream: Any, running: "dict[Any, _Running[Item]]", backlog: Backlog[Item]
) -> Iterator[tuple[Item, Any]]:
    """Takes the next result of a stream, its end, or its death."""
    attempt = running[stream]
    try:
        result = pickle.loads(ray.get(next(stream)))  # noqa: S301 (from a task of this driver)
    except StopIteration:
        del running[stream]
        return
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        cause.add_note(f"In a Ray task:\n{error}")
        raise cause from None
    except ray.exceptions.RayError as error:
        del running[stream]
        reason = f"its Ray worker died ({type(error).__name__}), and so did others under the same work"
        yield from ((lost.item, lost) for lost in backlog.put_back(attempt, attempt.finished, reason))
        return
    item = attempt.items[attempt.finished]
    attempt.finished += 1
    yield item, result


@contextmanager
def _connected(address: str) -> Iterator[ModuleType]:
    """Ray, connected; a connection that was open before stays open after."""
    ray = _import_ray()
    if ray.is_initialized():
        yield ray
        return
    ray.init(address=address, log_to_driver=False, logging_level="warning")
    try:
        yield ray
    finally:
        ray.shutdown()


def _import_ray() -> ModuleType:
    # Ray reads it when it is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise RayMissingError(
            "`executor: ray` needs Ray, which is not installed: pip install 'factory-assets[ray]', or choose"
            " `executor: processes`"
        ) from error
    return ray
