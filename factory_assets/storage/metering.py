"""Samples what this process has used, by the kernel's own accounting."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from factory_assets.contracts.costs import ProcessSample, Usage
from factory_assets.core.costs import usage_between

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
_NOTHING = ProcessSample(0.0, 0.0, 0, 0)


def take_sample() -> ProcessSample:
    """What this process, the children it waited for, and all living descendants have used so far.

    A descendant counts the same before and after it was waited for, so a difference of two samples is what was used in
    between, whenever workers start and end. Workers that outlive their parent are lost to both. Workers on other machines
    are not seen.
    """
    # Of this process the kernel tells more exactly than by the clock ticks that it shows of others.
    waited_for = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = time.process_time() + waited_for.ru_utime + waited_for.ru_stime
    this = psutil.Process()
    bytes_read, bytes_written = _bytes_of(this)
    for process in this.children(recursive=True):
        try:
            with process.oneshot():
                times = process.cpu_times()
                read, written = _bytes_of(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # gone since it was listed: its parent has it among its children's times
        cpu += times.user + times.system + times.children_user + times.children_system
        bytes_read, bytes_written = bytes_read + read, bytes_written + written
    return ProcessSample(time.monotonic(), cpu, bytes_read, bytes_written)


def own_cpu_seconds() -> float:
    """CPU seconds of this process so far, without any it started: a sample for work that starts none, and is short."""
    return time.process_time()


def _bytes_of(process: psutil.Process) -> tuple[int, int]:
    if not hasattr(process, "io_counters"):
        return 0, 0  # macOS does not tell
    counters = process.io_counters()
    return int(getattr(counters, "read_chars", counters.read_bytes)), int(
        getattr(counters, "write_chars", counters.write_bytes)
    )


def process_started_at() -> float:
    """When this process began, in seconds since the epoch."""
    return float(psutil.Process().create_time())


@dataclass
class Meter:
    """Meters the pieces of work of this process, one after the other, and what lies between them as overhead."""

    _mark: ProcessSample | None = None
    _run_id: str = ""

    @contextmanager
    def measure(self, run_id: str, run_created_at: float, reading: "Reading") -> Iterator[None]:
        """Measures the block; the reading has its usage afterwards, also when the block fails.

        Overhead counts from the piece of work before it in the same run. The first piece of a run has the whole start of a
        process that was started for the run, and nothing in one that was there before.
        """
        before = take_sample()
        since = self._mark if self._run_id == run_id else None
        if since is None:
            since = _NOTHING if process_started_at() >= run_created_at - 1 else before
        _reset_peak_memory()
        try:
            yield
        finally:
            after = take_sample()
            reading.usage = usage_between(before, after, since, _peak_memory_bytes())
            self._mark, self._run_id = after, run_id


@dataclass
class Reading:
    """What a block took, once it has ended, and the CPU seconds of each segment's own fit, if the block tells."""

    usage: Usage | None = None
    own_cpu_seconds: dict[str, float] = field(default_factory=dict)


def _reset_peak_memory() -> None:
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except OSError:
        return  # without it, the peak is that of the process so far


def _peak_memory_bytes() -> int:
    try:
        status = _STATUS.read_text(encoding="utf-8")
    except OSError:
        return int(psutil.Process().memory_info().rss)
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024
