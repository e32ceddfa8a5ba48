"""The backend without workers: every chunk in this process, one after the other."""

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from threadpoolctl import threadpool_limits

from factory_assets.compute.chunks import Lost
from factory_assets.compute.fan_out import ChunkFunction, Item, Result


@dataclass(frozen=True)
class SerialFanOut:
    """Runs here. A chunk that kills its worker kills this process: that is what the other backends are for."""

    def map(
        self, function: ChunkFunction[Item, Result], chunks: Sequence[Sequence[Item]], table: pa.Table
    ) -> Iterator[tuple[Item, Result | Lost[Item]]]:
        """See `FanOut.map`."""
        # Through bytes, as on the way to a worker: which equal strings are one object decides the bytes of a model.
        travelled = pickle.loads(pickle.dumps(function))  # noqa: S301 (written in the same line)
        for chunk in chunks:
            arrived = pickle.loads(pickle.dumps(tuple(chunk)))  # noqa: S301 (written in the same line)
            # A whole chunk at a time: setting the limit costs about a millisecond, and must not outlast the work.
            with threadpool_limits(limits=1):
                results = list(travelled(table, arrived))
            yield from zip(chunk, results, strict=True)
