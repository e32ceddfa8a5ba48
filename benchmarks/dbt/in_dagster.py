"""`dbt build` of the product's own project: by its command line, and as a run of Dagster."""

import json
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.dbt.measured import Cost, machine, middle, run_measured
from benchmarks.dbt.projects import dbt
from benchmarks.figures import Figure, at_most
from tests.bronze_fixture import DBT_PROJECT, read_all, write_bronze

_FIRST, _LAST = date(2013, 1, 1), date(2013, 12, 31)


def measure_dbt_in_dagster(console: Console, rounds: int) -> list[Figure]:
    """Whole processes over a year of flights; and inside the run's process the step of the build by itself."""
    with tempfile.TemporaryDirectory(prefix="benchmark-dbt-") as name:
        data = Path(name) / "data"
        write_bronze(data / "lake", read_all(_FIRST, _LAST))
        environment = {"FACTORY_DATA_DIR": str(data), "FACTORY_LAKE_URI": str(data / "lake")}
        environment |= {"DAGSTER_HOME": str(data / "dagster")}
        target = ["--target-path", str(data / "plain"), "--log-path", str(data / "logs")]
        plain_command = dbt("build", "--profiles-dir", ".", "--exclude-resource-type", "unit_test", *target)
        own_command = [sys.executable, "-W", "ignore", "-m", "benchmarks.dbt.in_dagster", str(data / "inside.json")]
        plain: list[Cost] = []
        own: list[Cost] = []
        inside: list[dict[str, float]] = []
        # The first of each parses the project and fills the lake; later ones find no new day, and write the other tables.
        for turn in range(rounds + 1):
            plain.append(run_measured(plain_command, DBT_PROJECT, environment))
            own.append(run_measured(own_command, Path.cwd(), environment))
            inside.append(json.loads((data / "inside.json").read_text()))
            console.print(f"[dim]turn {turn}: plain {plain[-1]}, Dagster {own[-1]}, inside {inside[-1]}[/]")
        first, second = middle(plain[1:]), middle(own[1:])
        # dbt alone within the same process, against the whole run there.
        steps = sorted(found["run"] / found["dbt"] for found in inside[1:])
        how = f"a year of flights, full refresh, every asset and data test, whole process, median of {rounds}; {machine()}"
        within = (
            f"in one process: Dagster's run of all assets against the dbt build inside it, median of {rounds}; {machine()}"
        )
        return [
            at_most("wall, Dagster's process against `dbt build`", second.wall_seconds / first.wall_seconds, "x", 1.3, how),
            Figure("CPU, Dagster's process against `dbt build`", second.cpu_seconds / first.cpu_seconds, "x", how),
            at_most("wall, Dagster's run against the build inside it", steps[len(steps) // 2], "x", 1.3, within),
            Figure("wall of `dbt build`", first.wall_seconds, "s", how, is_detail=True),
        ]


def main(result: str) -> None:
    """Runs all assets of the dbt project in this process and writes how long that took, and dbt's share of it."""
    import dagster as dg

    from factory_assets.definitions import build_definitions
    from factory_assets.installation import prepare_dagster_home
    from factory_assets.settings import FactorySettings
    from factory_assets.storage import dbt_runs

    settings = FactorySettings()
    prepare_dagster_home(settings)
    spent = {"dbt": 0.0}
    build = dbt_runs.DbtRuns.build

    def timed(self: dbt_runs.DbtRuns, *arguments: Any, **options: Any) -> dbt_runs.DbtOutcome:
        started = time.perf_counter()
        try:
            return build(self, *arguments, **options)
        finally:
            spent["dbt"] += time.perf_counter() - started

    dbt_runs.DbtRuns.build = timed  # type: ignore[method-assign]
    definitions = build_definitions(settings.project_dir / "factory_assets", settings)
    assets = [
        a
        for a in definitions.get_repository_def().asset_graph.assets_defs
        if a.is_executable and a.node_def.name == "dbt_project"
    ]
    started = time.perf_counter()
    with dg.DagsterInstance.get() as instance:
        done = dg.materialize(assets, instance=instance)
    assert done.success
    spent["run"] = time.perf_counter() - started
    Path(result).write_text(json.dumps(spent))


if __name__ == "__main__":
    main(sys.argv[1])
