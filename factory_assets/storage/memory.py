"""Memory that was freed, and that allocators keep for what comes next."""

import contextlib
import ctypes

import pyarrow as pa


def give_back_memory() -> None:
    """Gives it back to the system, after work of a size that this process does not soon see again."""
    pa.default_memory_pool().release_unused()
    # Of glibc alone; elsewhere there is nothing to call.
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
