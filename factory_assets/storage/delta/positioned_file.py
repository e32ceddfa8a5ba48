"""A file of an object store that several threads read at once.

DuckDB seeks and reads in two calls, and its threads share one file: between the two another thread may seek elsewhere, and
the bytes that come are those of another place ("don't know what type", or worse, rows of another column). Here each thread
has a position of its own, and a read says where.
"""

import os
import threading

from pyarrow import NativeFile


class PositionedFile:
    """Read-only, binary, as DuckDB's Python file systems use a file."""

    def __init__(self, stream: NativeFile) -> None:
        self._stream = stream
        self.size = int(stream.size())
        self._place = threading.local()

    def tell(self) -> int:
        """The calling thread's position, in bytes."""
        return int(getattr(self._place, "position", 0))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the calling thread's position, and that alone."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self.size}[whence]
        self._place.position = base + offset
        return self.tell()

    def read(self, count: int = -1) -> bytes:
        """At most `count` bytes (all, when negative) from the calling thread's position on."""
        start = self.tell()
        left = max(0, self.size - start)
        wanted = left if count < 0 else min(count, left)
        found = bytes(self._stream.read_at(wanted, start)) if wanted else b""
        self._place.position = start + len(found)
        return found

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    @property
    def closed(self) -> bool:
        """Whether it is."""
        return bool(self._stream.closed)

    def close(self) -> None:
        """For all threads."""
        self._stream.close()
