"""The one interface to many workers."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

import pyarrow as pa

from factory_assets.compute.chunks import Lost

Item = TypeVar("Item")
Result = TypeVar("Result")
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
