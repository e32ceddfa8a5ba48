"""How wall time and memory grow with the number of segments: logistic regression, so that the factory's own part shows."""

import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.figures import Figure, at_most, within
from benchmarks.fleet.compare import prepare, run_side
from benchmarks.fleet.work import pick_segments, read_flights

SIZES = (100, 1_000, 10_000)
CLOCKS = ("wall", "cpu")
# By how much a segment may cost more, or less, among the many than among the few, and growth still be called linear.
_LINEAR = 1.25


def measure_growth(console: Console, rounds: int) -> list[Figure]:
    """One full cycle of each size. Rounds above one repeat the small sizes only: the largest takes minutes."""
    seconds: dict[str, dict[int, list[float]]] = {clock: {size: [] for size in SIZES} for clock in CLOCKS}
    peaks: dict[int, list[int]] = {size: [] for size in SIZES}
    with tempfile.TemporaryDirectory(prefix="bench-fleet-scale-") as temporary:
        flights = read_flights()
        for size in SIZES:
            rows = pick_segments(flights, size)
            for _ in range(1 if size == SIZES[-1] else rounds):
                work = prepare(Path(temporary) / "fleet", rows, size, "logistic")
                measured = run_side("factory", work, "memory")
                for clock in CLOCKS:
                    seconds[clock][size].append(measured["seconds"]["memory"]["total"][clock])
                peaks[size].append(measured["facts"]["memory peak bytes"])
            median = {clock: np.median(seconds[clock][size]) for clock in CLOCKS}
            told = f"{median['wall']:.1f} s, {median['cpu']:.1f} s CPU, {np.median(peaks[size]) / 2**20:.0f} MiB"
            console.print(f"{size:,} segments: {told}")
    medians = {clock: {size: float(np.median(found)) for size, found in by.items()} for clock, by in seconds.items()}
    # Of a maximum over several rounds and one of a single round, the first would flatter the ratio.
    return _figures(medians, {size: float(np.median(found)) for size, found in peaks.items()})


def _figures(seconds: dict[str, dict[int, float]], peaks: dict[int, float]) -> list[Figure]:
    small, middle, large = SIZES
    how = f"a full cycle of logistic regressions at {small:,}, {middle:,} and {large:,} segments"
    figures = []
    for clock in CLOCKS:
        of = seconds[clock]
        among_few = (of[middle] - of[small]) / (middle - small)
        among_many = (of[large] - of[middle]) / (large - middle)
        if clock == "wall":
            fixed = of[small] - among_few * small
            figures.append(
                at_most(
                    "fixed cost of a fleet cycle", fixed, "s", 10, f"{how}, wall; the line through the smaller two, at 0"
                )
            )
        figures += [
            within(
                f"a segment beyond {middle:,} over one below, {clock}",
                among_many / among_few,
                "x",
                (1 / _LINEAR, _LINEAR),
                f"{how}; what each segment more costs between the sizes, 1 is linear growth",
            ),
            Figure(f"each segment below {middle:,}, {clock}", among_few * 1000, "ms", how),
            Figure(f"each segment beyond {middle:,}, {clock}", among_many * 1000, "ms", how),
        ]
    figures.append(
        at_most(
            "peak memory at 10,000 segments over 1,000",
            peaks[large] / peaks[middle],
            "x",
            2,
            "largest sum of proportional set sizes of the run's process and its workers, looked at once a second",
        )
    )
    for size in SIZES:
        figures += [
            Figure(f"cycle of {size:,} segments, {clock}", seconds[clock][size], "s", how, is_detail=True)
            for clock in CLOCKS
        ]
        figures.append(Figure(f"peak memory at {size:,} segments", peaks[size] / 2**20, "MiB", how, is_detail=True))
    return figures
