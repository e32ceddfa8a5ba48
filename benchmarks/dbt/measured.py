"""One command in a process of its own, with what the kernel says it took."""

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """What one process took, with all its children that it waited for."""

    wall_seconds: float
    cpu_seconds: float
    peak_rss_mb: float


def run_measured(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Cost:
    """Runs a command to its end; one that fails stops the benchmark with what it said."""
    with tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        child = subprocess.Popen(
            list(command), cwd=folder, env={**os.environ, **environment}, stdout=said, stderr=subprocess.STDOUT
        )
        # wait4 and not getrusage(RUSAGE_CHILDREN), whose peak is that of the largest child so far.
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            said.seek(0)
            raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}:\n{said.read().decode(errors='replace')}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def middle(costs: Sequence[Cost]) -> Cost:
    """Medians, each by itself."""
    return Cost(
        statistics.median(cost.wall_seconds for cost in costs),
        statistics.median(cost.cpu_seconds for cost in costs),
        statistics.median(cost.peak_rss_mb for cost in costs),
    )


def machine() -> str:
    """A sentence on how busy the machine was, for the record."""
    load, cores = os.getloadavg()[1], os.cpu_count() or 1
    shared = f"; the machine was shared (load {load:.1f} on {cores} cores)" if load > cores else ""
    return f"{cores} cores{shared}"
