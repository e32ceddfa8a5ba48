"""Runs the sides of a fleet, each in a process of its own and by turns, and reports what the factory adds.

`python -m benchmarks.fleet.compare ESTIMATOR [ROUNDS]` measures the cycle of one estimator alone, and writes no result.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from math import isclose, isnan
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console

from benchmarks.figures import Figure, at_most, print_figures
from benchmarks.fleet.factory import CHANGED_SEGMENTS
from benchmarks.fleet.work import Estimator, Work, pick_segments, read_flights, write_lake
from benchmarks.loop.work import PROJECT

SEGMENTS = 1000
RATIO_AIMS: dict[Estimator, float] = {"trees": 1.3, "logistic": 4.0, "small_trees": 1.3, "unlisted_trees": 1.3}
NAMES: dict[Estimator, str] = {
    "trees": "HistGradientBoosting",
    "logistic": "logistic regression",
    "small_trees": "HistGradientBoosting of 50 trees of 8 leaves",
    "unlisted_trees": "HistGradientBoosting, `mlflow: {per_segment: none}`",
}
# What is measured once, whatever the rounds: neighbours of the figures that have an aim of their own.
ONCE: frozenset[Estimator] = frozenset({"small_trees", "unlisted_trees"})
CLOCKS = ("cpu", "wall")
_SAME = 1e-6


class DifferentWorkError(RuntimeError):
    """The sides came to different models, so there is no ratio to speak of."""


def measure_fleet(console: Console, rounds: int) -> list[Figure]:
    """The factory's cycle over the bare loop, the cycles that have little to do, and the scoring.

    Raises:
        DifferentWorkError: when a segment's metric differs between the sides.
    """
    figures: list[Figure] = []
    measured: dict[Estimator, dict[str, list[dict[str, Any]]]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-fleet-") as temporary:
        flights = pick_segments(read_flights(), SEGMENTS)
        for estimator in NAMES:
            times = 1 if estimator in ONCE else rounds
            sides = ("factory",) if estimator == "unlisted_trees" else ("bare", "factory")
            found = _measure_sides(console, Path(temporary), flights, estimator, times, sides)
            # The same fits as `trees`: the bare side need not be run again.
            bare = found["bare"] = found["bare"] or measured["trees"]["bare"]
            measured[estimator] = found
            figures += _cycle_figures(estimator, bare, found["factory"], times)
            if estimator == "trees":
                figures += _small_cycle_figures(found["factory"])
        scored = run_side("scoring", prepare(Path(temporary) / "scoring", flights, SEGMENTS, "small_trees"))
    return [*figures, *_scoring_figures(scored)]


def measure_cycle(console: Console, estimator: Estimator, rounds: int) -> list[Figure]:
    """The full cycle of one estimator over the bare loop of the same fits, and nothing else.

    Raises:
        DifferentWorkError: when a segment's metric differs between the sides.
    """
    with tempfile.TemporaryDirectory(prefix="bench-fleet-") as temporary:
        flights = pick_segments(read_flights(), SEGMENTS)
        found = _measure_sides(console, Path(temporary), flights, estimator, rounds, ("bare", "factory"))
    return _cycle_figures(estimator, found["bare"], found["factory"], rounds)


def prepare(folder: Path, flights: pa.Table, segments: int, estimator: Estimator) -> Work:
    """A fresh folder beside `folder` with the lake of one side; never one that was there before.

    This process keeps the database of MLflow open that it made, and would go on writing to the deleted file.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Work(Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent)), segments, estimator)
    write_lake(work, flights)
    return work


def run_side(side: str, work: Work, *phases: str) -> dict[str, Any]:
    """Runs one side in a fresh process, and returns what it measured.

    Raises:
        RuntimeError: with the side's own words when it fails.
    """
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.fleet.{side}"]
    command += [str(work.folder), str(work.segments), work.estimator, *phases]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FACTORY_", "DAGSTER_", "MLFLOW_"))}
    done = subprocess.run(command, cwd=PROJECT, env=kept, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the {side} side failed:\n{done.stderr[-4000:]}")
    measured: dict[str, Any] = json.loads((work.folder / f"{side}.json").read_text())
    shutil.rmtree(work.folder)
    return measured


def median_seconds(runs: Sequence[dict[str, Any]], phase: str, clock: str) -> float:
    """Of a phase, over the rounds."""
    return statistics.median(run["seconds"][phase]["total"][clock] for run in runs)


def _measure_sides(
    console: Console, folder: Path, flights: pa.Table, estimator: Estimator, rounds: int, sides: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {"bare": [], "factory": []}
    for number in range(rounds):
        # By turns first, so that neither side always meets the colder machine.
        for side in sides if number % 2 == 0 else reversed(sides):
            work = prepare(folder / side, flights, SEGMENTS, estimator)
            phases = ("cycle", "nothing", "few", "changed") if side == "factory" and estimator == "trees" else ()
            found[side].append(run_side(side, work, *phases))
        if found["bare"]:
            require_same_models(found["bare"][-1]["facts"]["metrics"], found["factory"][-1]["facts"]["metrics"])
        told = ", ".join(f"{side} {median_seconds(found[side][-1:], 'cycle', 'wall'):.0f} s" for side in sides)
        console.print(f"{NAMES[estimator]}, round {number + 1} of {rounds}: {told}")
    return found


def require_same_models(bare: dict[str, float], factory: dict[str, float]) -> None:
    """Every metric that both sides have must be equal; NaN is a holdout of one class."""
    both = [key for key in bare if key in factory and not isnan(bare[key]) and factory[key] is not None]
    if len(both) < len(factory) / 2:
        raise DifferentWorkError(f"only {len(both)} of {len(factory)} segments can be compared")
    different = [key for key in both if not isclose(bare[key], factory[key], abs_tol=_SAME)]
    if different:
        shown = ", ".join(f"{key}: {bare[key]} and {factory[key]}" for key in different[:5])
        raise DifferentWorkError(f"{len(different)} of {len(both)} segments differ: {shown}")


def _cycle_figures(
    estimator: Estimator, bare: list[dict[str, Any]], factory: list[dict[str, Any]], rounds: int
) -> list[Figure]:
    name, figures = NAMES[estimator], []
    work = f"{SEGMENTS:,} scheduled flights, {name}; median of {rounds}, each side in a fresh process, workers included"
    for clock in CLOCKS:
        ours, plain = median_seconds(factory, "cycle", clock), median_seconds(bare, "cycle", clock)
        how = f"{work}; the cycle reads, fits, gates, registers and records in Delta, Dagster and MLflow"
        figure = f"fleet cycle over a bare joblib loop, {name}, {clock}"
        figures.append(at_most(figure, ours / plain, "x", RATIO_AIMS[estimator], how))
        figures.append(Figure(f"fleet cycle, {name}, {clock}", ours, "s", how, is_detail=True))
        figures.append(Figure(f"bare loop, {name}, {clock}", plain, "s", work, is_detail=True))
    return figures


def _small_cycle_figures(factory: list[dict[str, Any]]) -> list[Figure]:
    figures = []
    for clock in CLOCKS:
        whole = median_seconds(factory, "cycle", clock)
        nothing = median_seconds(factory, "nothing", clock) / whole * 100
        few = median_seconds(factory, "few", clock) / whole * 100
        how = "in the process of the full cycle, HistGradientBoosting"
        figures.append(at_most(f"cycle with nothing to do over a full one, {clock}", nothing, "%", 5, how))
        title = f"retraining {CHANGED_SEGMENTS} of {SEGMENTS:,} segments over all, {clock}"
        figures.append(at_most(title, few, "%", 8, f"{how}; the segments are asked for, as after drift"))
        title = f"a cycle of the whole line after {CHANGED_SEGMENTS} of {SEGMENTS:,} segments changed, {clock}"
        changed = median_seconds(factory, "changed", clock) / whole * 100
        figures.append(Figure(title, changed, "%", f"{how}; the model of all rows is fitted again too"))
    return figures


def _scoring_figures(scored: dict[str, Any]) -> list[Figure]:
    figures = []
    for clock in CLOCKS:
        ours, plain = (scored["seconds"][side]["total"][clock] for side in ("factory", "bare"))
        facts = scored["facts"]
        how = f"{facts['rows']:,} flights by {facts['models']:,} HistGradientBoosting models, loaded on both sides"
        figures.append(at_most(f"scoring all flights over a bare loop of predicts, {clock}", ours / plain, "x", 1.3, how))
    return figures


if __name__ == "__main__":
    _console, _rounds = Console(highlight=False), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    _chosen: Estimator = sys.argv[1]  # type: ignore[assignment]
    print_figures(_console, NAMES[_chosen], measure_cycle(_console, _chosen, _rounds))
