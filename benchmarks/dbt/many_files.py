"""Tables of thousands of files and logs of a thousand commits: what our views of them cost beside DuckDB's own reads."""

import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import duckdb
import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from rich.console import Console

from benchmarks.dbt.measured import Cost, machine, middle, run_measured
from benchmarks.dbt.projects import dbt, write_small_project
from benchmarks.figures import Figure, at_most
from factory_assets.storage.delta.log import read_commit
from factory_assets.storage.delta.snapshots import select_sql
from factory_assets.storage.delta.table_place import TablePlace

_FILES, _COMMITS, _ROWS_PER_FILE = 3_650, 1_000, 50
_DAY = "DATE '1975-01-01'"
_QUERIES = {
    "aggregate": "select sum(x), count(distinct s) from {rows}",
    "one partition": f"select sum(x) from {{rows}} where day = {_DAY}",
}


def measure_many_files(console: Console, rounds: int) -> list[Figure]:
    """Reads in one process, in turns; then whole dbt invocations over a lake with these tables and over one without."""
    with tempfile.TemporaryDirectory(prefix="benchmark-dbt-") as name:
        folder = Path(name)
        many = folder / "lake" / "bronze" / "many"
        _write_days(many)
        figures = _read_figures(many, rounds)
        long = folder / "lake" / "bronze" / "long"
        _spread_over_commits(many, long)
        figures += _log_figures(long, many, rounds)
        figures += _dbt_figures(folder, rounds, console)
        return figures


def _write_days(uri: Path) -> None:
    numbers = np.arange(_FILES * _ROWS_PER_FILE)
    days = pa.array((numbers // _ROWS_PER_FILE).astype("int32")).cast(pa.date32())
    texts = pa.array((numbers % 997).astype(str))
    x = np.random.default_rng(7).random(len(numbers))
    write_deltalake(str(uri), pa.table({"id": numbers, "day": days, "x": x, "s": texts}), partition_by=["day"])


def _spread_over_commits(source: Path, target: Path) -> None:
    """The same table with its files in a thousand commits, and no checkpoint."""
    shutil.copytree(source, target, copy_function=lambda old, new: Path(new).hardlink_to(old))
    log = target / "_delta_log"
    lines = (log / f"{0:020}.json").read_text().splitlines(keepends=True)
    adds = [line for line in lines if line.startswith('{"add"')]
    shutil.rmtree(log)
    log.mkdir()
    (log / f"{0:020}.json").write_text("".join(line for line in lines if not line.startswith('{"add"')))
    for number in range(_COMMITS):
        (log / f"{number + 1:020}.json").write_text("".join(adds[number::_COMMITS]))
    assert read_commit(TablePlace(str(target)), _COMMITS)


def _read_figures(many: Path, rounds: int) -> list[Figure]:
    plain = f"read_parquet('{many}/*/*.parquet', hive_partitioning = true)"
    how = f"{_FILES:,} files, one a partition, {_ROWS_PER_FILE} rows each; median of {rounds}, in turns; {machine()}"
    figures = []
    for kind, sql in _QUERIES.items():
        # Everything that a dbt invocation does for it: the log is opened, the view made, the query run.
        ways: dict[str, Callable[[], object]] = {
            "view": partial(_through_a_view, many, sql),
            "plain": partial(_of_all_files, sql.format(rows=plain)),
        }
        seconds = _in_turns(ways, rounds)
        ratio = seconds["view"] / seconds["plain"]
        name = f"{kind}: log, view and query against read_parquet of the folder"
        figures.append(at_most(name, ratio, "x", 1.25, how) if kind == "aggregate" else Figure(name, ratio, "x", how))
        figures += [Figure(f"{kind}: {way}", value, "s", how, is_detail=True) for way, value in seconds.items()]
    return figures


def _through_a_view(uri: Path, sql: str) -> object:
    connection = duckdb.connect()
    connection.execute(f"create view v as {select_sql(DeltaTable(str(uri)))}")
    return connection.execute(sql.format(rows="v")).fetchall()


def _of_all_files(sql: str) -> object:
    return duckdb.connect().execute(sql).fetchall()


def _log_figures(long: Path, many: Path, rounds: int) -> list[Figure]:
    how = f"{_FILES:,} files in {_COMMITS:,} commits without a checkpoint, and in one; median of {rounds}; {machine()}"
    ways = {"long": lambda: select_sql(DeltaTable(str(long))), "short": lambda: select_sql(DeltaTable(str(many)))}
    seconds = _in_turns(ways, rounds)
    return [
        Figure(f"log of {_COMMITS:,} commits against one commit", seconds["long"] / seconds["short"], "x", how),
        Figure(f"opening a log of {_COMMITS:,} commits", seconds["long"], "s", how),
        Figure("opening a log of one commit", seconds["short"], "s", how, is_detail=True),
    ]


def _dbt_figures(folder: Path, rounds: int, console: Console) -> list[Figure]:
    one = "select count(*) as n from {{ source('bronze', 'one') }}"
    write_deltalake(str(folder / "lake" / "bronze" / "one"), pa.table({"n": [1]}))
    write_deltalake(str(folder / "bare" / "bronze" / "one"), pa.table({"n": [1]}))
    project = write_small_project(folder, {"counted": one}, ("one",))
    found: dict[str, list[Cost]] = {"lake": [], "bare": []}
    for _ in range(rounds + 1):
        for side, costs in found.items():
            environment = {"FACTORY_LAKE_URI": str(folder / side)}
            costs.append(run_measured(dbt("build", "--profiles-dir", "."), project, environment))
            console.print(f"[dim]{side}: {costs[-1]}[/]")
    with_them, without = (middle(found[side][1:]) for side in ("lake", "bare"))
    how = (
        f"`dbt build` of one model over one row, in a lake that also holds the two tables of {_FILES:,} files, against a "
        f"lake without them; whole process, median of {rounds}; {machine()}"
    )
    return [
        at_most(
            "wall, connecting beside tables of many files", with_them.wall_seconds / without.wall_seconds, "x", 1.25, how
        ),
        Figure("CPU, connecting beside tables of many files", with_them.cpu_seconds / without.cpu_seconds, "x", how),
        Figure("CPU that the two tables cost", with_them.cpu_seconds - without.cpu_seconds, "s", how),
    ]


def _in_turns(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds + 1):
        for way, run in ways.items():
            started = time.perf_counter()
            run()
            taken[way].append(time.perf_counter() - started)
    return {way: median(seconds[1:]) for way, seconds in taken.items()}
