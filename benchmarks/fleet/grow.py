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
    """Full cycles of each size, as many as rounds, in turn: the largest takes minutes, and the machine changes meanwhile."""
    seconds: dict[str, dict[int, list[float]]] = {clock: {size: [] for size in SIZES} for clock in CLOCKS}
    peaks: dict[int, list[int]] = {size: [] for size in SIZES}
    with tempfile.TemporaryDirectory(prefix="bench-fleet-scale-") as temporary:
        flights = read_flights()
        for _ in range(rounds):
            for size in SIZES:
                work = prepare(Path(temporary) / "fleet", pick_segments(flights, size), size, "logistic")
                measured = run_side("factory", work, "memory")
                found, peak = measured["seconds"]["memory"]["total"], measured["facts"]["memory peak bytes"]
                for clock in CLOCKS:
                    seconds[clock][size].append(found[clock])
                peaks[size].append(peak)
                told = f"{found['wall']:.1f} s, {found['cpu']:.1f} s CPU, {peak / 2**20:.0f} MiB"
                console.print(f"{size:,} segments: {told}")
    medians = {clock: {size: float(np.median(found)) for size, found in by.items()} for clock, by in seconds.items()}
    return _figures(medians, {size: float(np.median(found)) for size, found in peaks.items()}, rounds)


def _figures(seconds: dict[str, dict[int, float]], peaks: dict[int, float], rounds: int) -> list[Figure]:
    small, middle, large = SIZES
    how = f"a full cycle of logistic regressions at {small:,}, {middle:,} and {large:,} segments, median of {rounds}"
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
            "largest sum of proportional set sizes of the run's process and its workers, looked at once a second;"
            f" median of {rounds}",
        )
    )
    for size in SIZES:
        figures += [
            Figure(f"cycle of {size:,} segments, {clock}", seconds[clock][size], "s", how, is_detail=True)
            for clock in CLOCKS
        ]
        figures.append(Figure(f"peak memory at {size:,} segments", peaks[size] / 2**20, "MiB", how, is_detail=True))
    return figures
