"""Runs both sides, each in a process of its own and by turns, holds their tables against each other, and reports."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure, at_most
from benchmarks.loop.meter import STARTED_AT
from benchmarks.loop.same_work import find_differences, find_different_metrics
from benchmarks.loop.work import PROJECT, Work, prepare_work

Side = Literal["bare", "factory"]
Clock = Literal["wall", "cpu"]
FIRST_DAY = date(2013, 1, 1)
HISTORY_DAYS = 120
CPU_RATIO_AIM = 3.0
PHASES = ("history", "week")
STAGES = ("ingest", "transform", "training set", "train", "score", "judge", "orchestration")
_WORK = "January to April of real flights and one week more, two model lines"
_CLOCKS: tuple[Clock, ...] = ("cpu", "wall")


class DifferentWorkError(RuntimeError):
    """The sides came to different results, so there is no ratio to speak of."""


@dataclass(frozen=True)
class Measured:
    """What one side's runs took, in medians over the rounds."""

    runs: list[dict[str, Any]]

    def seconds(self, clock: Clock, phases: Iterable[str], stages: Iterable[str] | None = None) -> float:
        """Seconds of the named phases, of all their stages or of some."""
        return _median(
            sum(
                spent[clock]
                for phase in phases
                for stage, spent in run["seconds"].get(phase, {}).items()
                if stages is None or stage in stages
            )
            for run in self.runs
        )

    @property
    def start_stages(self) -> list[str]:
        """What a start-up consists of."""
        return list(self.runs[0]["seconds"]["start-up"])

    @property
    def peak_rss_bytes(self) -> float:
        """The most memory the process held."""
        return _median(run["peak_rss_bytes"] for run in self.runs)

    def dbt_seconds(self, kind: str) -> float:
        """Execution time that dbt recorded for one kind of node, both phases."""
        return _median(sum(run["facts"][f"dbt seconds, {phase}"].get(kind, 0.0) for phase in PHASES) for run in self.runs)


def measure_loop(console: Console, rounds: int) -> list[Figure]:
    """Both sides `rounds` times over the whole work.

    Raises:
        DifferentWorkError: when the sides come to different results.
    """
    with tempfile.TemporaryDirectory(prefix="bench-loop-") as temporary:
        folder = Path(temporary)
        console.print("preparing: raw files land, dbt compiles (not timed)")
        work = prepare_work(folder / "work", FIRST_DAY, HISTORY_DAYS)
        runs: dict[Side, list[dict[str, Any]]] = {"bare": [], "factory": []}
        for number in range(rounds):
            # By turns first, so that neither side always meets the colder machine.
            sides: tuple[Side, Side] = ("bare", "factory") if number % 2 == 0 else ("factory", "bare")
            for side in sides:
                runs[side].append(run_side(side, work, folder / side))
            require_same_work(folder / "bare", folder / "factory")
            for side in sides:
                shutil.rmtree(folder / side)
            console.print(f"round {number + 1} of {rounds}: same rows, models, scores and verdicts on both sides")
    bare, factory = Measured(runs["bare"]), Measured(runs["factory"])
    _print_stages(console, bare, factory)
    return build_figures(bare, factory, rounds)


def run_side(side: Side, work: Work, out: Path) -> dict[str, Any]:
    """Runs one side in a fresh process over an empty folder, and returns what it measured.

    Raises:
        RuntimeError: with the side's own words when it fails.
    """
    out.mkdir(parents=True)
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.loop.{side}", str(work.folder), str(out)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FACTORY_", "DAGSTER_", "MLFLOW_"))}
    environment = {**kept, "FACTORY_DATA_DIR": str(out), "DAGSTER_HOME": str(out / "dagster"), STARTED_AT: str(time.time())}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the {side} side failed:\n{done.stderr[-4000:]}")
    measured: dict[str, Any] = json.loads((out / "measured.json").read_text())
    return measured


def require_same_work(bare: Path, factory: Path) -> None:
    """Holds two sides' folders against each other.

    Raises:
        DifferentWorkError: naming every table and metric that differs.
    """
    metrics = [json.loads((side / "measured.json").read_text())["facts"]["metrics"] for side in (bare, factory)]
    differences = [*find_differences(bare, factory), *find_different_metrics(*metrics)]
    if differences:
        raise DifferentWorkError("the bare script and the factory came to different results:\n" + "\n".join(differences))


def build_figures(bare: Measured, factory: Measured, rounds: int) -> list[Figure]:
    """The figures of the report."""
    how = f"{_WORK}; each side {rounds} times in fresh processes by turns, medians; both came to the same rows and scores"
    warm = {clock: _ratio(bare, factory, clock, PHASES) for clock in _CLOCKS}
    cold = {clock: _ratio(bare, factory, clock, ("start-up", *PHASES)) for clock in _CLOCKS}
    figures = [
        at_most("CPU, factory to bare script, start-up excluded", warm["cpu"], "x", CPU_RATIO_AIM, how),
        Figure("wall time, factory to bare script, start-up excluded", warm["wall"], "x", how),
        Figure("CPU, factory to bare script, cold start-up included", cold["cpu"], "x", how),
        Figure("wall time, factory to bare script, cold start-up included", cold["wall"], "x", how),
        Figure("CPU of one incremental week, factory to bare script", _ratio(bare, factory, "cpu", ["week"]), "x", how),
    ]
    for stage in STAGES[:-1]:
        ratio = _ratio(bare, factory, "cpu", PHASES, [stage])
        figures.append(Figure(f"CPU of {stage}, factory to bare script", ratio, "x", how))
    record = "steps by Dagster's event log, the process's CPU meanwhile; children included"
    tests = "execution times in run_results.json, both phases; dbt runs nodes side by side"
    for name, side in (("factory", factory), ("bare script", bare)):
        figures.append(Figure(f"peak memory, {name}", side.peak_rss_bytes / 1e6, "MB", "VmHWM of the process"))
        stages = {stage: side.seconds("cpu", PHASES, [stage]) for stage in STAGES}
        stages |= {f"start-up, {stage}": side.seconds("cpu", ["start-up"], [stage]) for stage in side.start_stages}
        figures += [
            Figure(f"CPU of {stage}, {name}", seconds, "s", record, is_detail=True)
            for stage, seconds in stages.items()
            if seconds
        ]
    figures += [
        Figure(f"dbt {kind} nodes within transform", factory.dbt_seconds(kind), "s", tests, is_detail=True)
        for kind in ("model", "test", "unit_test")
    ]
    return figures


def _median(values: Iterable[float]) -> float:
    return float(statistics.median(values))


def _ratio(
    bare: Measured, factory: Measured, clock: Clock, phases: Iterable[str], stages: Iterable[str] | None = None
) -> float:
    phases = list(phases)
    return factory.seconds(clock, phases, stages) / bare.seconds(clock, phases, stages)


def _print_stages(console: Console, bare: Measured, factory: Measured) -> None:
    table = Table(title="Stage by stage", title_justify="left", title_style="bold")
    for column in ("phase", "stage", "bare CPU s", "factory CPU s", "ratio", "bare wall s", "factory wall s", "ratio"):
        table.add_column(column, justify="left" if column in ("phase", "stage") else "right")
    for phase in PHASES:
        for stage in (*STAGES, "all"):
            stages = None if stage == "all" else [stage]
            if factory.seconds("cpu", [phase], stages):
                table.add_row(phase, stage, *_cells(bare, factory, phase, stages), end_section=stage == "all")
    started = {"bare": bare.start_stages, "factory": factory.start_stages}
    for stage in dict.fromkeys([*started["bare"], *started["factory"], "all"]):
        table.add_row("start-up", stage, *_cells(bare, factory, "start-up", None if stage == "all" else [stage]))
    console.print(table)


def _cells(bare: Measured, factory: Measured, phase: str, stages: list[str] | None) -> list[str]:
    cells = []
    for clock in _CLOCKS:
        ours, theirs = factory.seconds(clock, [phase], stages), bare.seconds(clock, [phase], stages)
        cells += [f"{theirs:.2f}", f"{ours:.2f}", f"{ours / theirs:.1f}x" if theirs else ""]
    return cells
