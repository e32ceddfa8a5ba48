"""Wall and CPU time of stages, by two ways: around a block, or afterwards between two instants of another record."""

import json
import os
import resource
import threading
import time
from bisect import bisect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Variable in which a side finds when its process was started, in seconds since the epoch.
STARTED_AT = "BENCHMARK_STARTED_AT"
_SAMPLE_SECONDS = 0.005


@dataclass
class Meter:
    """What one side measured: seconds by phase and stage, and figures that say what work was done."""

    seconds: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def add(self, phase: str, stage: str, wall: float, cpu: float) -> None:
        """Adds to a stage."""
        spent = self.seconds.setdefault(phase, {}).setdefault(stage, {"wall": 0.0, "cpu": 0.0})
        spent["wall"] += wall
        spent["cpu"] += cpu

    def add_start(self, stage: str) -> None:
        """Adds everything since this process was started: the interpreter and the imports so far."""
        started = float(os.environ.get(STARTED_AT, time.time()))
        self.add("start-up", stage, time.time() - started, cpu_seconds())

    @contextmanager
    def stage(self, phase: str, stage: str) -> Iterator[None]:
        """Adds what the block takes."""
        wall, cpu = time.perf_counter(), cpu_seconds()
        yield
        self.add(phase, stage, time.perf_counter() - wall, cpu_seconds() - cpu)

    def save(self, path: Path) -> None:
        """Writes everything, with the peak memory, as JSON."""
        measured = {"seconds": self.seconds, "facts": self.facts, "peak_rss_bytes": peak_rss_bytes()}
        path.write_text(json.dumps(measured, indent=1))


class CpuTimeline:
    """Samples this process's CPU time while it is entered, so that intervals of another record can be priced later."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._instants: list[float] = []
        self._cpu: list[float] = []

    def __enter__(self) -> "CpuTimeline":
        self._note()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._note()

    def between(self, start: float, end: float) -> float:
        """CPU seconds spent from `start` to `end`, both seconds since the epoch."""
        return self._at(end) - self._at(start)

    def _at(self, instant: float) -> float:
        """Between two samples, in proportion."""
        after = min(max(bisect(self._instants, instant), 1), len(self._instants) - 1)
        (t0, t1), (c0, c1) = self._instants[after - 1 : after + 1], self._cpu[after - 1 : after + 1]
        share = (instant - t0) / (t1 - t0) if t1 > t0 else 1.0
        return c0 + (c1 - c0) * min(max(share, 0.0), 1.0)

    def _sample(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            self._note()

    def _note(self) -> None:
        self._instants.append(time.time())
        self._cpu.append(cpu_seconds())


def cpu_seconds() -> float:
    """User and system time of this process, all its threads, and the children it waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def peak_rss_bytes() -> int:
    """The most memory this process ever held."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # On Linux `ru_maxrss` would begin with the peak of the process that started this one.
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM:")) * 1024
