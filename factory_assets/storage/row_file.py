"""Rows in an Arrow file that is mapped: a table as any other, of which memory holds what was looked at lately."""

import mmap
import tempfile
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

# The rows that are in memory a second time while they are sorted: 64k of them are about 10 MB.
_BATCH_ROWS = 65_536


@dataclass(frozen=True)
class RowFile:
    """A table that lies in a file without a name; the file goes with the last look at it."""

    table: pa.Table
    _map: mmap.mmap

    def forget(self) -> None:
        """Gives the memory back that looking at the rows took; the next look reads them again."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


def write_rows(table: pa.Table, order: np.ndarray | None = None) -> RowFile:
    """Writes the rows of a table, brought into `order`, some at a time."""
    with tempfile.TemporaryFile(prefix="factory-rows-") as file:
        with pa.ipc.new_file(pa.PythonFile(file, "w"), table.schema) as writer:
            for start in range(0, table.num_rows, _BATCH_ROWS):
                rows = min(_BATCH_ROWS, table.num_rows - start)
                some = table.slice(start, rows) if order is None else table.take(pa.array(order[start : start + rows]))
                for batch in some.combine_chunks().to_batches():
                    writer.write_batch(batch)
        file.flush()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return RowFile(pa.ipc.open_file(pa.py_buffer(mapped)).read_all(), mapped)
