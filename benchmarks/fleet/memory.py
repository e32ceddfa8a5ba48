"""The most memory that a process and its children ever held together."""

import threading
from types import TracebackType

import psutil

# Each look walks the page tables: five a second cost a cycle a quarter of its CPU.
_SAMPLE_SECONDS = 1.0


class PeakMemory:
    """Samples while it is entered; `peak_bytes` is the largest sum of proportional set sizes.

    Proportional: a page that several processes share, such as the table that all workers map, counts once.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        own = psutil.Process()
        while not self._stop.wait(_SAMPLE_SECONDS):
            total = 0
            for process in (own, *own.children(recursive=True)):
                try:
                    total += process.memory_full_info().pss
                except psutil.NoSuchProcess:
                    continue
            self.peak_bytes = max(self.peak_bytes, total)
