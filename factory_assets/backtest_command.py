"""The command `factory backtest`: retrain policies tried on the past, before one is switched on."""

import json
import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from factory_assets.contracts.names import suggest
from factory_assets.core.backtesting.policies import DEFAULT_POLICIES, POLICIES
from factory_assets.settings import FactorySettings

if TYPE_CHECKING:
    from factory_assets.contracts.backtest import BacktestReport
    from factory_assets.contracts.calendar import CalendarSpec
    from factory_assets.contracts.model_line import ModelLineSpec

_DAY = ["%Y-%m-%d"]


class BacktestRefusedError(ValueError):
    """The command cannot do what is asked for; the message says what to do."""


def backtest(
    line: Annotated[str, typer.Argument(help="The model line.")],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help=f"One of {', '.join(POLICIES)}, or on_drift@7d for another cooldown; may be repeated."
            f" Absent: {', '.join(DEFAULT_POLICIES)}."
        ),
    ] = None,
    against: Annotated[str | None, typer.Option(help="The policy that the others are compared with; absent: own.")] = None,
    first: Annotated[
        datetime | None,
        typer.Option("--from", formats=_DAY, help="The first model is trained at the end of this day."),
    ] = None,
    last: Annotated[datetime | None, typer.Option("--until", formats=_DAY, help="The last day that is judged.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for picture and report; absent: data/backtests.")] = None,
) -> None:
    """Replays the line's history under several retrain policies: quality over time, retrains and cost of each.

    Reads the lake, and writes nothing but a picture and a report.
    """
    console = Console(highlight=False)
    try:
        report = _run(console, FactorySettings(), line, tuple(policy or DEFAULT_POLICIES), against, first, last)
    except (ValueError, LookupError) as error:
        console.print(f"[bold red]error:[/] {error}", markup=True, soft_wrap=True)
        raise typer.Exit(1) from error
    picture, kept = write_report(report, out or FactorySettings().data / "backtests")
    _print(console, report)
    console.print(f"written to {picture} and {kept}", markup=False, soft_wrap=True)


def write_report(report: "BacktestReport", folder: Path) -> tuple[Path, Path]:
    """Writes LINE.png and LINE.json below `folder`; returns their paths."""
    from factory_assets.core.backtesting.pictures import plot_backtest

    folder.mkdir(parents=True, exist_ok=True)
    picture, kept = folder / f"{report.line}.png", folder / f"{report.line}.json"
    picture.write_bytes(plot_backtest(report))
    kept.write_text(json.dumps(asdict(report), indent=1, default=str) + "\n", encoding="utf-8")
    return picture, kept


def _run(
    console: Console,
    settings: FactorySettings,
    line: str,
    policies: tuple[str, ...],
    against: str | None,
    first: datetime | None,
    last: datetime | None,
) -> "BacktestReport":
    from factory_assets.components.model_line.retraining import newest_instant
    from factory_assets.core.backtesting.policies import OWN, check_policies
    from factory_assets.lines.backtesting.backtest import Plan, run_backtest
    from factory_assets.lines.stores import LineStores
    from factory_assets.storage.artefact_store import ArtefactStore
    from factory_assets.storage.delta.lake import Lake
    from factory_assets.storage.mlflow.registry import MlflowRegistry

    chosen = check_policies(policies)
    (other,) = check_policies([against or (OWN if OWN in chosen else chosen[0])])
    spec, calendar = _find_line(settings, line)
    # A replay touches neither model files nor MLflow; a line's stores name them all the same.
    registry = MlflowRegistry(settings.mlflow_uri, settings.mlflow_artifacts)
    stores = LineStores(spec, Lake(settings.lake), ArtefactStore(settings.models), registry, workers=settings.workers)
    plan = Plan(chosen, other, first.date() if first else None, last.date() if last else None, settings.price_per_cpu_hour)
    started = time.monotonic()

    def tell(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:5.0f} s[/]  {text}", soft_wrap=True)

    return run_backtest(stores, calendar, plan, newest_instant, tell)


def _find_line(settings: FactorySettings, name: str) -> "tuple[ModelLineSpec, CalendarSpec]":
    from factory_assets.installation import load_calendar, load_lines

    lines = {spec.name: spec for spec in load_lines(settings)}
    if name not in lines:
        raise BacktestRefusedError(f"{name!r} is no sound model line: {suggest(name, lines)}")
    calendar = load_calendar(settings)
    if calendar is None:
        raise BacktestRefusedError(
            "there is no sound calendar, which parts the days: declare one, and run `factory validate`"
        )
    return lines[name], calendar


def _print(console: Console, report: "BacktestReport") -> None:
    from factory_assets.core.backtesting.report_text import COLUMNS, describe_stretch, list_cells

    table = Table(title=describe_stretch(report), title_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "policy" else "right")
    for cells in list_cells(report):
        table.add_row(*cells)
    console.print(table)
    console.print(f"{report.fits} models were fitted, in {report.fit_cpu_seconds:,.0f} CPU s; each counts for every policy.")
