"""`dbt build` of ten models: Delta tables by the factory, against DuckDB tables over files and over the Delta plugin."""

import multiprocessing
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks.dbt.measured import Cost, machine, middle, run_measured
from benchmarks.dbt.projects import MEMORY_MB, MODELS, THREADS, YEAR_ROWS, dbt, write_bronze, write_project
from benchmarks.figures import Figure, at_most

_COPIES = (9, 30)
_SIDES = ("delta", "duckdb", "plugin")


def measure_dbt_build(console: Console, rounds: int) -> list[Figure]:
    """Wall time and peak memory at two sizes; each build is a process of its own, into an empty lake or database."""
    figures = []
    peaks = {}
    for copies in _COPIES:
        with tempfile.TemporaryDirectory(prefix="benchmark-dbt-") as name:
            folder = Path(name)
            # A process of its own, so that its memory is not this one's.
            writer = multiprocessing.get_context("spawn").Process(target=write_bronze, args=(folder / "lake", copies))
            writer.start()
            writer.join()
            costs: dict[str, list[Cost]] = {side: [] for side in _SIDES}
            for turn in range(rounds):
                for side in _SIDES:
                    costs[side].append(_build(folder / f"turn{turn}", folder / "lake", side))
                    console.print(f"[dim]{copies} years, {side}: {costs[side][-1]}[/]")
            found = {side: middle(costs[side]) for side in _SIDES}
        peaks[copies] = found["delta"].peak_rss_mb
        figures += _figures(copies, found, rounds)
    first, last = (peaks[copies] for copies in _COPIES)
    how = f"peak at {_COPIES[1]} years' rows less that at {_COPIES[0]}; {machine()}"
    return [*figures, Figure("growth of the Delta build's peak memory", last - first, "MB", how)]


def _build(folder: Path, lake: Path, side: str) -> Cost:
    own_lake = folder / f"{side}_lake"
    (own_lake / "bronze").mkdir(parents=True)
    (own_lake / "bronze" / "flights").symlink_to(lake / "bronze" / "flights")
    project = write_project(folder, lake, side)
    return run_measured(dbt("build", "--profiles-dir", "."), project, {"FACTORY_LAKE_URI": str(own_lake)})


def _figures(copies: int, found: dict[str, Cost], rounds: int) -> list[Figure]:
    rows = f"{copies * YEAR_ROWS / 1e6:.1f}M rows"
    how = (
        f"`dbt build` of {len(MODELS)} models over {rows}, {THREADS} threads (the plugin with 1, since it races), "
        f"whole process, memory_limit {MEMORY_MB} MB, median of {rounds}; {machine()}"
    )
    delta, plain, plugin = (found[side] for side in _SIDES)
    return [
        at_most(f"wall, Delta against DuckDB tables, {rows}", delta.wall_seconds / plain.wall_seconds, "x", 1.25, how),
        Figure(f"CPU, Delta against DuckDB tables, {rows}", delta.cpu_seconds / plain.cpu_seconds, "x", how),
        Figure(f"wall, Delta against the Delta plugin, {rows}", delta.wall_seconds / plugin.wall_seconds, "x", how),
        at_most(f"peak memory of the Delta build, {rows}", delta.peak_rss_mb, "MB", MEMORY_MB + 300, how),
        Figure(f"peak memory with DuckDB tables, {rows}", plain.peak_rss_mb, "MB", how),
        Figure(f"peak memory with the Delta plugin, {rows}", plugin.peak_rss_mb, "MB", how),
        Figure(f"wall of the Delta build, {rows}", delta.wall_seconds, "s", how, is_detail=True),
    ]
