"""Drift checks against the tools that people use today, and against the promise that they make."""

from rich.console import Console

from benchmarks.figures import Figure


def measure_drift(console: Console, rounds: int) -> list[Figure]:
    """Speed first, then sixty days of a fleet."""
    from benchmarks.drift.promise import measure_promise
    from benchmarks.drift.speed import measure_speed

    return [*measure_speed(console, rounds), *measure_promise(console, rounds)]
