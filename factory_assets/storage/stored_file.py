"""A local file that is read by place: memory holds what was asked for, and nothing else of it."""

import os
import weakref
from pathlib import Path
from typing import Self


class StoredFile:
    """An open descriptor, closed with the object; any number of threads may read at once."""

    def __init__(self, descriptor: int) -> None:
        """Takes over a descriptor that is open for reading."""
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The file at a path.

        Raises:
            FileNotFoundError: when it is gone.
        """
        return cls(os.open(path, os.O_RDONLY))

    @property
    def length(self) -> int:
        """Bytes in the file now."""
        return os.fstat(self._descriptor).st_size

    def read(self, start: int, length: int) -> bytes:
        """At most `length` bytes from `start` on; fewer where the file ends."""
        pieces: list[bytes] = []
        while length > 0:
            piece = os.pread(self._descriptor, length, start)
            if not piece:
                break
            pieces.append(piece)
            start, length = start + len(piece), length - len(piece)
        return b"".join(pieces)
