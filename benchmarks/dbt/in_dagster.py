"""`dbt build` of the product's own project, plainly and as a run of Dagster: in processes reused, and in new ones."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from statistics import median
from typing import IO, Any

from rich.console import Console

from benchmarks.dbt.measured import Cost, machine, middle, run_measured
from benchmarks.dbt.projects import dbt
from benchmarks.figures import Figure, at_most
from tests.bronze_fixture import DBT_PROJECT, read_all, write_bronze

_FIRST, _LAST = date(2013, 1, 1), date(2013, 12, 31)
_SIDES = ("plain", "dagster")


def measure_dbt_in_dagster(console: Console, rounds: int) -> list[Figure]:
    """The same build over a year of flights on both sides, in turns; later ones find no new day, and rewrite the rest."""
    with tempfile.TemporaryDirectory(prefix="benchmark-dbt-") as name:
        data = Path(name) / "data"
        write_bronze(data / "lake", read_all(_FIRST, _LAST))
        environment = {"FACTORY_DATA_DIR": str(data), "FACTORY_LAKE_URI": str(data / "lake")}
        environment |= {"DAGSTER_HOME": str(data / "dagster")}
        return _measure_warm(console, data, environment, rounds) + _measure_cold(console, data, environment, rounds)


def _measure_warm(console: Console, data: Path, environment: Mapping[str, str], rounds: int) -> list[Figure]:
    """One process each, that builds again and again: what a code server, a worker or a notebook pays."""
    found: dict[str, list[dict[str, float]]] = {side: [] for side in _SIDES}
    with ExitStack() as processes:
        ask = {side: _start(side, data, environment, processes) for side in _SIDES}
        # The first build of each imports and parses, the second is the first with all of that there.
        for turn in range(rounds + 2):
            for side in _SIDES:
                found[side].append(ask[side]())
                console.print(f"[dim]warm, turn {turn}: {side} {found[side][-1]}[/]")
    plain, own = ({key: median(turn[key] for turn in found[side][2:]) for key in ("wall", "cpu")} for side in _SIDES)
    steps = median(turn["wall"] / turn["dbt"] for turn in found["dagster"][2:])
    how = (
        "a year of flights, every asset and data test, one process a side that is reused, partial parse kept, in turns, "
        f"median of {rounds}; {machine()}"
    )
    within = f"Dagster's run of all assets against the dbt build inside it, median of {rounds}; {machine()}"
    return [
        at_most("wall, a run of Dagster against `dbt build`, processes reused", own["wall"] / plain["wall"], "x", 1.3, how),
        at_most("CPU, a run of Dagster against `dbt build`, processes reused", own["cpu"] / plain["cpu"], "x", 1.3, how),
        at_most("wall, a run of Dagster against the build inside it", steps, "x", 1.3, within),
        Figure("wall of `dbt build`, process reused", plain["wall"], "s", how, is_detail=True),
        Figure("CPU of `dbt build`, process reused", plain["cpu"], "s", how, is_detail=True),
    ]


def _measure_cold(console: Console, data: Path, environment: Mapping[str, str], rounds: int) -> list[Figure]:
    target = ["--target-path", str(data / "plain"), "--log-path", str(data / "logs")]
    commands = {
        "plain": (dbt("build", "--profiles-dir", ".", "--exclude-resource-type", "unit_test", *target), DBT_PROJECT),
        "dagster": (_command("dagster", data), Path.cwd()),
    }
    found: dict[str, list[Cost]] = {side: [] for side in _SIDES}
    for turn in range(rounds + 1):
        for side, (command, folder) in commands.items():
            found[side].append(run_measured([*command], folder, environment))
            console.print(f"[dim]cold, turn {turn}: {side} {found[side][-1]}[/]")
    plain, own = (middle(found[side][1:]) for side in _SIDES)
    how = f"the same, a new process each time, from its start to its end, median of {rounds}; {machine()}"
    return [
        Figure("wall, a new process of Dagster's against `dbt build`", own.wall_seconds / plain.wall_seconds, "x", how),
        Figure("CPU, a new process of Dagster's against `dbt build`", own.cpu_seconds / plain.cpu_seconds, "x", how),
        Figure("wall of `dbt build`, new process", plain.wall_seconds, "s", how, is_detail=True),
    ]


def _command(side: str, data: Path) -> list[str]:
    return [sys.executable, "-W", "ignore", "-m", "benchmarks.dbt.in_dagster", side, str(data)]


def _start(side: str, data: Path, environment: Mapping[str, str], processes: ExitStack) -> Callable[[], dict[str, float]]:
    child = processes.enter_context(
        subprocess.Popen(
            [*_command(side, data), "reused"],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    )
    requests, answers = child.stdin, child.stdout
    assert requests is not None
    assert answers is not None
    processes.callback(requests.close)
    return lambda: _ask(requests, answers)


def _ask(requests: IO[str], answers: IO[str]) -> dict[str, float]:
    requests.write("build\n")
    requests.flush()
    for line in answers:
        if line.startswith("{"):
            return {key: float(value) for key, value in json.loads(line).items()}
    raise RuntimeError("a side of the benchmark ended before it answered")


def main(side: str, data: Path, is_reused: bool) -> None:
    """Builds once; or, when the process is reused, each time that a line comes in, and says what it took."""
    build = {"plain": _plain_build, "dagster": _dagster_build}[side](data)
    if not is_reused:
        build()
        return
    for _ in sys.stdin:
        started, before = time.perf_counter(), time.process_time()
        inside = build()
        cost = {"wall": time.perf_counter() - started, "cpu": time.process_time() - before, "dbt": inside}
        sys.stdout.write("\n" + json.dumps(cost) + "\n")
        sys.stdout.flush()


def _plain_build(data: Path) -> Callable[[], float]:
    from dbt.cli.main import dbtRunner

    folders = ["--project-dir", str(DBT_PROJECT), "--profiles-dir", str(DBT_PROJECT)]
    folders += ["--target-path", str(data / "plain"), "--log-path", str(data / "logs")]

    def build() -> float:
        done = dbtRunner().invoke(["--quiet", "build", "--exclude-resource-type", "unit_test", *folders])
        assert done.success
        return 0.0

    return build


def _dagster_build(data: Path) -> Callable[[], float]:
    """All assets of the dbt project as one run; a build tells how long dbt's share of it was."""
    import dagster as dg

    from factory_assets.definitions import build_definitions
    from factory_assets.installation import prepare_dagster_home
    from factory_assets.settings import FactorySettings
    from factory_assets.storage.dbt import runs as dbt_runs

    settings = FactorySettings()
    prepare_dagster_home(settings)
    spent: list[float] = []
    run_dbt = dbt_runs.DbtRuns.build

    def timed(self: dbt_runs.DbtRuns, *arguments: Any, **options: Any) -> dbt_runs.DbtOutcome:
        started = time.perf_counter()
        try:
            return run_dbt(self, *arguments, **options)
        finally:
            spent.append(time.perf_counter() - started)

    dbt_runs.DbtRuns.build = timed  # type: ignore[method-assign]
    definitions = build_definitions(settings.project_dir / "factory_assets", settings)
    assets = [
        a
        for a in definitions.get_repository_def().asset_graph.assets_defs
        if a.is_executable and a.node_def.name == "dbt_project"
    ]

    def build() -> float:
        with dg.DagsterInstance.get() as instance:
            assert dg.materialize(assets, instance=instance).success
        return spent[-1]

    return build


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), is_reused=len(sys.argv) > 3)
