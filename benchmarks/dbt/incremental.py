"""A part of a table of ten million rows written anew, against the whole: one partition replaced, one percent merged."""

import multiprocessing
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks.dbt.measured import Cost, machine, middle, run_measured
from benchmarks.dbt.projects import YEAR_ROWS, dbt, write_bronze, write_small_project
from benchmarks.figures import Figure, at_most

_COPIES = 30
_ROWS = """{{ config(%s) }}
select concat_ws('-', carrier, flight, origin, dest, copy, strftime(time_hour, '%%Y%%m%%d%%H')) as flight_id,
    carrier, origin, dest, time_hour, dep_delay, arr_delay, distance, copy from {{ source('bronze', 'flights') }}
{%% if is_incremental() %%} where %s {%% endif %%}"""
_MODELS = {
    "replaced": ("incremental_strategy='replace_partitions', partition_by='copy'", "copy = 3"),
    "merged": ("incremental_strategy='merge', unique_key='flight_id'", "hash(flight, dest, time_hour, copy) % 100 = 7"),
}


def measure_dbt_incremental(console: Console, rounds: int) -> list[Figure]:
    """Each incremental run and each full refresh is a process of its own."""
    with tempfile.TemporaryDirectory(prefix="benchmark-dbt-") as name:
        folder = Path(name)
        writer = multiprocessing.get_context("spawn").Process(target=write_bronze, args=(folder / "lake", _COPIES))
        writer.start()
        writer.join()
        models = {model: _ROWS % settings for model, settings in _MODELS.items()}
        project = write_small_project(folder, models, ("flights",))
        figures = []
        for model, words in (("replaced", f"one partition of {_COPIES} replaced"), ("merged", "1% merged by key")):
            found: dict[str, list[Cost]] = {"full": [], "part": []}
            for _ in range(rounds):
                for kind, flags in (("full", ["--full-refresh"]), ("part", [])):
                    command = dbt("build", "--profiles-dir", ".", "--select", model, *flags)
                    found[kind].append(run_measured(command, project, {"FACTORY_LAKE_URI": str(folder / "lake")}))
                    console.print(f"[dim]{model} {kind}: {found[kind][-1]}[/]")
            full, part = middle(found["full"]), middle(found["part"])
            how = f"`dbt build` over {_COPIES * YEAR_ROWS / 1e6:.1f}M rows, whole process, median of {rounds}; {machine()}"
            figures += [
                at_most(f"wall, {words}, against all rows", part.wall_seconds / full.wall_seconds, "x", 1, how),
                Figure(f"CPU, {words}, against all rows", part.cpu_seconds / full.cpu_seconds, "x", how),
                Figure(f"peak memory, {words}", part.peak_rss_mb, "MB", how),
                Figure(f"peak memory, all rows ({model})", full.peak_rss_mb, "MB", how),
                Figure(f"wall, all rows ({model})", full.wall_seconds, "s", how, is_detail=True),
            ]
        return figures
