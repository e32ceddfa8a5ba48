"""The `factory` command: play the demo, open the UI, say how the lines are, check the declarations."""

import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from factory_assets.backtest_command import backtest
from factory_assets.impact_command import impact
from factory_assets.sandbox_commands import sandboxes
from factory_assets.settings import FactorySettings, name_wrong_settings


class _Commands(typer.core.TyperGroup):
    """Every command reads the settings first; one that is wrong is told by the name of its variable."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        _be_quiet()
        try:
            return super().main(*args, **kwargs)
        except ValidationError as error:
            problems = name_wrong_settings(error)
            if not problems:
                raise
            for problem in problems:
                typer.echo(f"error: {problem}", err=True)
            raise SystemExit(1) from error


app = typer.Typer(cls=_Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
# Wide enough for the table where there is no terminal to ask, as in a log.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 118)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Errors that are meant for the reader are printed as one sentence, and end the command with 1."""
    from factory_assets.demo.flights import DemoDataMissingError
    from factory_assets.demo.run import DemoFailedError
    from factory_assets.processes import DataFolderInUseError, PortTakenError

    try:
        yield
    except (DataFolderInUseError, DemoDataMissingError, DemoFailedError, PortTakenError) as error:
        console.print(f"[bold red]error:[/] {error}", markup=True)
        raise typer.Exit(1) from error


@app.command()
def demo(
    small: Annotated[bool, typer.Option(help="Six weeks of history and one week more, instead of half a year.")] = False,
) -> None:
    """Plays half a year of real flights: lands, trains, scores, and lets failed checks start retrains."""
    os.environ.setdefault("FACTORY_SENSOR_INTERVAL_SECONDS", "5")
    from factory_assets.demo import plan
    from factory_assets.demo.run import play_demo

    started = time.monotonic()

    def report(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:5.0f} s[/]  {text}")

    settings = FactorySettings()
    _require_usable(settings)
    with _plain_errors():
        play_demo(settings, plan.SMALL if small else plan.FULL, report)
    _print_status(settings)
    console.print(_WHERE_TO_LOOK)


@app.command()
def status() -> None:
    """Prints, for each line: champion, metric, predictions, checks, and retrains with their causes."""
    _print_status(FactorySettings())


@app.command()
def dev(port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the UI, on 127.0.0.1.")] = 3000) -> None:
    """Opens the Dagster UI with its daemon on this installation's data; schedules, sensors and links to reports work."""
    import dagster as dg

    from factory_assets.installation import prepare_dagster_home
    from factory_assets.processes import mark_lost_runs, own_data_folder, require_free_port, start_dagster, stop_dagster
    from factory_assets.report_server import serve_reports

    settings = FactorySettings()
    _require_usable(settings)
    with _plain_errors(), own_data_folder(settings):
        require_free_port(port)
        # A factory that a service stops takes its daemon with it, as one that a person stops.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        if notice := prepare_dagster_home(settings):
            console.print(notice, markup=False)
        with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
            mark_lost_runs(instance)
        command = ["dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
        process = start_dagster(settings, command)
        try:
            with serve_reports(settings) as notice:
                if notice:
                    console.print(notice, markup=False)
                process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.wait()
        finally:
            stop_dagster(settings, process)
        raise typer.Exit(process.returncode)


@app.command()
def mlflow(port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the UI, on 127.0.0.1.")] = 5000) -> None:
    """Opens the MLflow UI on this installation's models. It is for reading: the factory writes the store itself."""
    from factory_assets.processes import require_free_port
    from factory_assets.storage.mlflow.registry import MlflowRegistry

    settings = FactorySettings()
    _require_usable(settings)
    if settings.mlflow_uri.startswith(("http://", "https://")):
        typer.echo("error: FACTORY_MLFLOW_TRACKING_URI names a server, which has a UI of its own: open that", err=True)
        raise typer.Exit(1)
    with _plain_errors():
        require_free_port(port)
    MlflowRegistry(settings.mlflow_uri, settings.mlflow_artifacts).client()  # makes the store where there is none
    command = [str(Path(sys.executable).with_name("mlflow")), "server", "--host", "127.0.0.1", "--port", str(port)]
    stores = ["--backend-store-uri", settings.mlflow_uri, "--artifacts-destination", settings.mlflow_artifacts]
    # Without the job runner and with one worker the server is 370 MB in 2 processes, and not 1.7 GB in 10.
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    # In place of this process, so that what stops the one stops the other.
    os.execve(command[0], [*command, "--workers", "1", *stores], {**os.environ, **quiet})  # noqa: S606


@app.command()
def docs(port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the pages, on 127.0.0.1.")] = 8080) -> None:
    """Opens dbt's documentation of every table and column, made anew from the project and the lake."""
    from factory_assets.processes import require_free_port

    settings = FactorySettings()
    _require_usable(settings)
    with _plain_errors():
        require_free_port(port)
    os.chdir(settings.dbt_project)
    dbt = str(Path(sys.executable).with_name("dbt"))
    generated = subprocess.run([dbt, "docs", "generate", "--quiet"], check=False)
    if generated.returncode:
        raise typer.Exit(generated.returncode)
    os.execv(dbt, [dbt, "docs", "serve", "--host", "127.0.0.1", "--port", str(port), "--no-browser"])  # noqa: S606


@app.command()
def validate() -> None:
    """Checks the settings and every declaration below factory_assets/defs; ends with 1 when one is wrong."""
    from factory_assets.installation import find_declaration_problems

    settings = FactorySettings()
    _require_usable(settings)
    problems = find_declaration_problems(settings)
    for problem in problems:
        console.print(str(problem), markup=False, soft_wrap=True)
    if problems:
        raise typer.Exit(1)
    console.print("all declarations are sound")


app.command()(impact)
app.command()(backtest)
app.add_typer(sandboxes, name="sandbox")


@app.command()
def accept(
    source: Annotated[str, typer.Argument(help="The source whose day is held.")],
    day: Annotated[datetime, typer.Argument(formats=["%Y-%m-%d"], help="The held day.")],
    because: Annotated[str, typer.Option(help="Why it is right after all; kept with the incident.")] = "",
) -> None:
    """Says that a held day is right after all: the next ingest publishes it, and the factory asks for that by itself."""
    from factory_assets.storage.delta.lake import Lake
    from factory_assets.storage.tables.incidents import Incidents, NothingHeldError

    try:
        incident = Incidents(Lake(FactorySettings().lake)).accept(source, day.date(), because)
    except NothingHeldError as error:
        console.print(f"[bold red]error:[/] {error}", markup=True)
        raise typer.Exit(1) from error
    console.print(f"accepted: {incident.source} {incident.day}, {incident.summary}", markup=False)


def _require_usable(settings: FactorySettings) -> None:
    """Says what is wrong with the settings before anything starts, and ends the command if it stays wrong by itself."""
    from factory_assets.environment import find_doubts, find_faults

    for doubt in find_doubts(settings):
        typer.echo(f"warning: {doubt}", err=True)
    faults = find_faults(settings)
    for fault in faults:
        typer.echo(f"error: {fault}", err=True)
    if faults:
        raise typer.Exit(1)


_WHERE_TO_LOOK = """
Look at what it did:
  make dev      the Dagster UI with lineage, runs and checks   http://127.0.0.1:3000
  make mlflow   the MLflow UI with models and metrics          http://127.0.0.1:5000
  make docs     dbt's documentation of tables and columns      http://127.0.0.1:8080
  make status   this table again"""


_NO_LINE = """
There is no sound model line: docs/how-to/add-a-model-line.md shows how to declare one, factory validate what is wrong."""

_NOTHING_RAN = """
Nothing has run yet:
  make demo     plays half a year of real flights through the whole loop
  make dev      takes in what lies in {landing}, and trains what has no model: docs/how-to/run-on-your-own-data.md"""


def _print_status(settings: FactorySettings) -> None:
    from factory_assets.installation import load_lines
    from factory_assets.lines.summary import list_retrains, summarise
    from factory_assets.storage.delta.lake import Lake

    lake = Lake(settings.lake)
    lines = Table(title="Model lines", title_justify="left")
    for column in ("line", "segments", "champion", "metric", "baseline", "predictions", "checks ok / failed", "retrains"):
        lines.add_column(column, justify="left" if column == "line" else "right")
    summaries = summarise(lake, [line.name for line in load_lines(settings)])
    for row in summaries:
        lines.add_row(
            row.line,
            str(row.segments),
            f"v{row.champion_version}" if row.champion_version else "none",
            "" if row.value is None else f"{row.metric} {row.value:.4f}",
            "" if row.baseline_value is None else f"{row.baseline_value:.4f}",
            f"{row.predictions:,}",
            f"{row.checks_passed} / {row.checks_failed}",
            str(row.retrains),
        )
    retrains = Table(title="Retrains, by the factory clock", title_justify="left")
    for column in ("day", "line", "cause", "outcome"):
        retrains.add_column(column)
    for retrain in list_retrains(lake):
        retrains.add_row(retrain.day, retrain.line, " + ".join(retrain.causes), retrain.outcome)
    console.print(lines)
    console.print(retrains)
    if not summaries:
        console.print(_NO_LINE)
    elif not any(row.segments or row.checks_passed or row.checks_failed or row.retrains for row in summaries):
        console.print(_NOTHING_RAN.format(landing=settings.landing), soft_wrap=True)


def _be_quiet() -> None:
    """Libraries report their own progress and betas; what matters comes back as results and errors."""
    warnings.simplefilter("ignore")
    for name in ("alembic", "mlflow", "dagster"):
        logging.getLogger(name).setLevel(logging.ERROR)
