"""How wall time and memory grow with the number of segments: logistic regression, so that the factory's own part shows."""

import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.figures import Figure, at_most
from benchmarks.fleet.compare import prepare, run_side
from benchmarks.fleet.work import pick_segments, read_flights

SIZES = (100, 1_000, 10_000)


def measure_growth(console: Console, rounds: int) -> list[Figure]:
    """One full cycle of each size. Rounds above one repeat the small sizes only: the largest takes minutes."""
    seconds: dict[int, list[float]] = {}
    peaks: dict[int, int] = {}
    with tempfile.TemporaryDirectory(prefix="bench-fleet-scale-") as temporary:
        flights = read_flights()
        for size in SIZES:
            rows = pick_segments(flights, size)
            for _ in range(1 if size == SIZES[-1] else rounds):
                work = prepare(Path(temporary) / "fleet", rows, size, "logistic")
                measured = run_side("factory", work, "memory")
                seconds.setdefault(size, []).append(measured["seconds"]["memory"]["total"]["wall"])
                peaks[size] = max(peaks.get(size, 0), measured["facts"]["memory peak bytes"])
            console.print(f"{size:,} segments: {np.median(seconds[size]):.1f} s, {peaks[size] / 2**20:.0f} MiB")
    return _figures({size: float(np.median(found)) for size, found in seconds.items()}, peaks)


def _figures(seconds: dict[int, float], peaks: dict[int, int]) -> list[Figure]:
    small, middle, large = SIZES
    each = (seconds[large] - seconds[small]) / (large - small)
    fixed = seconds[small] - each * small
    predicted = fixed + each * middle
    how = f"a full cycle of logistic regressions at {small:,}, {middle:,} and {large:,} segments, wall"
    figures = [
        at_most("fixed cost of a fleet cycle", fixed, "s", 10, f"{how}; the line through smallest and largest, at 0"),
        Figure("each segment", each * 1000, "ms", how),
        at_most(
            "wall at 1,000 over what the line predicts", seconds[middle] / predicted, "x", 1.25, f"{how}; 1 is linear growth"
        ),
        at_most(
            "peak memory at 10,000 segments over 1,000",
            peaks[large] / peaks[middle],
            "x",
            2,
            "largest sum of proportional set sizes of the run's process and its workers, looked at once a second",
        ),
    ]
    for size in SIZES:
        figures.append(Figure(f"cycle of {size:,} segments", seconds[size], "s", how, is_detail=True))
        figures.append(Figure(f"peak memory at {size:,} segments", peaks[size] / 2**20, "MiB", how, is_detail=True))
    return figures
