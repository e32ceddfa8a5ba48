"""The command `factory impact`: what an edit of the dbt project would change, before it is merged."""

import json
import tempfile
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from factory_assets.settings import FactorySettings

if TYPE_CHECKING:
    from factory_assets.storage.dbt.runs import DbtRuns

CHANGED = 3


class Format(StrEnum):
    """How the report is written."""

    markdown = "markdown"
    json = "json"


def impact(
    against: Annotated[
        str | None, typer.Option(help="A git ref to compare the models with; absent: what is published.")
    ] = None,
    output: Annotated[Format, typer.Option("--format", help="markdown for people, json for machines.")] = Format.markdown,
    data: Annotated[bool, typer.Option(help="Compute the changed models and compare their rows.")] = True,
) -> None:
    """Lists what an edit of the dbt project changes: models, columns, rows, model lines.

    Ends with 0 when no model changes its meaning, with 3 when one does, and with 1 when the comparison failed.
    """
    from factory_assets.core.transformations.impact_text import render_markdown
    from factory_assets.installation import load_lines
    from factory_assets.lines.impact import as_before, assess_impact, estimate_from_ledger, read_published_state
    from factory_assets.storage.dbt.definitions import list_models
    from factory_assets.storage.dbt.runs import DbtParseError, DbtRuns
    from factory_assets.storage.delta.lake import Lake
    from factory_assets.storage.git import GitRefError, export_folder

    settings = FactorySettings()
    lake = Lake(settings.lake)
    try:
        models = list_models(*_compile_both(DbtRuns(settings.dbt_project, settings.data / "dbt" / "impact", settings.lake)))
        if against is None:
            before = read_published_state(lake, models)
        else:
            with tempfile.TemporaryDirectory(prefix="factory-impact-") as folder:
                tree = export_folder(settings.dbt_project, against, Path(folder))
                runs = DbtRuns(tree, Path(folder) / "work", settings.lake)
                before = as_before(against, list_models(*_compile_both(runs)), models)
    except (DbtParseError, GitRefError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    report = assess_impact(lake, models, before, load_lines(settings), estimate_from_ledger(lake), data)
    if output is Format.json:
        typer.echo(json.dumps({**asdict(report), "is_empty": report.is_empty}, indent=1))
    else:
        typer.echo(render_markdown(report), nl=False)
    raise typer.Exit(0 if report.is_empty else CHANGED)


def _compile_both(runs: "DbtRuns") -> tuple[dict[str, Any], dict[str, Any]]:
    return runs.compile(full_refresh=True), runs.compile(full_refresh=False)
