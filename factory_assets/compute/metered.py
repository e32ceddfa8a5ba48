"""What each item of a fan-out took, told beside its result; the result itself stays free of clocks."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic

import pyarrow as pa

from factory_assets.compute.fan_out import ChunkFunction, Item, Result


@dataclass(frozen=True)
class Metered(Generic[Result]):
    """A result, and the CPU seconds that its worker took for it."""

    result: Result
    cpu_seconds: float


@dataclass(frozen=True)
class MeteredFunction(Generic[Item, Result]):
    """`function` with each of its results metered; it pickles as `function` does."""

    function: ChunkFunction[Item, Result]

    def __call__(self, table: pa.Table, items: Sequence[Item]) -> Iterator[Metered[Result]]:
        """Yields one metered result an item, in the order of the items."""
        before = time.process_time()
        for result in self.function(table, items):
            after = time.process_time()
            yield Metered(result, after - before)
            # What the taker of the result does in between is not the item's.
            before = time.process_time()
