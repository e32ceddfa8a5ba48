"""`python -m benchmarks [NAME]`: runs one benchmark, or all of them."""

from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.backtest.measure import measure_backtest
from benchmarks.dbt.build import measure_dbt_build
from benchmarks.dbt.in_dagster import measure_dbt_in_dagster
from benchmarks.dbt.incremental import measure_dbt_incremental
from benchmarks.dbt.many_files import measure_many_files
from benchmarks.drift import measure_drift
from benchmarks.figures import PAGE, Figure, print_figures, render_page, write_results
from benchmarks.fleet.compare import measure_fleet
from benchmarks.fleet.grow import measure_growth
from benchmarks.fleet.peers import measure_peers
from benchmarks.incidents.measure import measure_incidents
from benchmarks.loop.compare import measure_loop
from benchmarks.monitoring.compare import measure_monitoring_year
from benchmarks.retraining.measure import measure_retraining
from benchmarks.stores.compare import measure_stores

Benchmark = Callable[[Console, int], list[Figure]]
BENCHMARKS: dict[str, tuple[str, Benchmark]] = {
    "drift": ("Drift checks of a fleet: speed, and the promise of false alarms", measure_drift),
    "monitoring_year": ("A year of flights: alarms, and which of them preceded a real loss", measure_monitoring_year),
    "incidents": ("Broken days told from changed ones", measure_incidents),
    "stores": ("Ways for DuckDB to read an object store", measure_stores),
    "fleet": ("A fleet of a thousand models against a bare loop of the same fits", measure_fleet),
    "fleet_scale": ("A fleet as it grows", measure_growth),
    "fleet_peers": ("A fit in the factory, wired naively, in Metaflow and in Kedro; and on Ray", measure_peers),
    "loop": ("The factory loop against a bare script", measure_loop),
    "backtest": ("Retrain policies on the flights of 2013, and a backtest beside its bare fits", measure_backtest),
    "retraining": ("Retraining: exactly once, bounded, quick to decide", measure_retraining),
    "dbt_build": ("Ten dbt models as Delta tables, against DuckDB tables", measure_dbt_build),
    "dbt_in_dagster": ("`dbt build` under Dagster, against the command line", measure_dbt_in_dagster),
    "dbt_incremental": ("A part of a table written anew, against the whole", measure_dbt_incremental),
    "dbt_many_files": ("Tables of thousands of files, against DuckDB's own reads", measure_many_files),
}


def main(
    name: Annotated[str | None, typer.Argument(help=f"One of {', '.join(BENCHMARKS)}; absent: all.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Times each side runs; medians are reported.")] = 3,
) -> None:
    """Measures ratios on this machine and writes benchmarks/results/NAME.json."""
    console = Console(highlight=False)
    if name is not None and name not in BENCHMARKS:
        raise typer.BadParameter(f"{name!r} is not a benchmark: choose one of {', '.join(BENCHMARKS)}")
    for chosen in [name] if name else BENCHMARKS:
        title, measure = BENCHMARKS[chosen]
        figures = measure(console, rounds)
        print_figures(console, title, figures)
        console.print(f"written to {write_results(chosen, figures)}")
        PAGE.write_text(render_page(), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
