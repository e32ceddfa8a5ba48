"""What a benchmark found: one table on the console, one JSON file in `benchmarks/results`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Figure:
    """One number. `aim` is a limit in words; without one the figure only informs, and `holds` is None.

    `is_detail` keeps it out of the summary on the console, not out of the file.
    """

    figure: str
    value: float
    unit: str
    how: str
    aim: str | None = None
    holds: bool | None = None
    is_detail: bool = False


def at_most(figure: str, value: float, unit: str, limit: float, how: str) -> Figure:
    """A figure that aims at `limit` or less.

    >>> at_most("CPU", 3.4, "x", 3, "one run").holds
    False
    """
    return Figure(figure, value, unit, how, f"at most {limit:g} {unit}", value <= limit)


def write_results(name: str, figures: Sequence[Figure]) -> Path:
    """Writes benchmarks/results/<name>.json, with rounded values, and returns its path."""
    keys = ("figure", "value", "unit", "aim", "holds", "how")
    rows = [{key: asdict(figure)[key] for key in keys} for figure in figures]
    for row in rows:
        row["value"] = float(f"{row['value']:.4g}")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def print_figures(console: Console, title: str, figures: Sequence[Figure]) -> None:
    """The figures without the details; those with an aim first, since they are the answer."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in ("figure", "value", "aim", "holds"):
        table.add_column(column, justify="right" if column == "value" else "left")
    shown = [figure for figure in figures if not figure.is_detail]
    for figure in sorted(shown, key=lambda found: found.aim is None):
        verdict = "" if figure.holds is None else "[green]yes[/]" if figure.holds else "[red]no[/]"
        table.add_row(figure.figure, f"{figure.value:.3g} {figure.unit}", figure.aim or "", verdict)
    console.print(table)
