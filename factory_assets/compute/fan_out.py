"""The one interface to many workers, and the choice of its backend."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, Protocol, TypeVar

import pyarrow as pa

from factory_assets.compute.chunks import Lost

Item = TypeVar("Item")
Result = TypeVar("Result")
Executor = Literal["serial", "processes", "ray"]
# Takes the table and a chunk; gives one result an item, in the chunk's order, each as soon as it is there.
ChunkFunction = Callable[[pa.Table, Sequence[Item]], Iterable[Result]]


class FanOut(Protocol):
    """Does the same work on many chunks; results depend neither on the number of workers nor on who ended first."""

    def map(
        self, function: ChunkFunction[Item, Result], chunks: Sequence[Sequence[Item]], table: pa.Table
    ) -> Iterator[tuple[Item, Result | Lost[Item]]]:
        """Yields every item with its result, in the order in which they end.

        A worker that dies costs nothing but time: items without a result are given to a fresh one. An item under which
        workers die again and again is given as `Lost`, and harms no other.

        Args:
            function: picklable, of an importable module; pure, or the backends would differ.
            chunks: as `plan_chunks` gives them; their items are picklable.
            table: the rows of all items, read once and shared: no worker gets a copy of its own on this machine.

        Raises:
            Exception: what `function` raised. What one item may suffer, `function` gives as its result.
        """
        ...


def open_fan_out(executor: Executor, workers: int | None = None, ray_address: str | None = None) -> FanOut:
    """The backend that `executor` names.

    Args:
        executor: where the work shall run.
        workers: worker processes; absent: one a core that this process may use. A Ray cluster knows its own number.
        ray_address: of the running cluster, as `ray.init` takes it.

    Raises:
        RayAddressError: naming the setting, when Ray is chosen and no address is given.
    """
    if executor == "ray":
        from factory_assets.compute.ray_cluster import RayAddressError, RayFanOut

        if not ray_address:
            raise RayAddressError(
                "`executor: ray` needs the address of a running cluster: start one (`ray start --head`) and set"
                " FACTORY_RAY_ADDRESS, or choose `executor: processes`"
            )
        return RayFanOut(ray_address)
    if executor == "processes":
        from factory_assets.compute.processes import ProcessFanOut

        return ProcessFanOut(workers or available_cores())
    from factory_assets.compute.serial import SerialFanOut

    return SerialFanOut()


def available_cores() -> int:
    """Cores that this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
