"""A table that lies in an Arrow file and is mapped: of it, memory holds what was looked at lately."""

import mmap
from dataclasses import dataclass
from typing import IO

import pyarrow as pa


@dataclass(frozen=True)
class MappedTable:
    """A table and the map that it is a view of, which lasts as long as any view."""

    table: pa.Table
    _map: mmap.mmap

    def forget(self) -> None:
        """Gives the memory back that looking at the rows took; the next look reads them again."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


def map_table(file: IO[bytes]) -> MappedTable:
    """Maps the Arrow file that is open as `file`, which may be closed after, and removed."""
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return MappedTable(pa.ipc.open_file(pa.py_buffer(mapped)).read_all(), mapped)
