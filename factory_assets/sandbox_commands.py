"""The commands `factory sandbox …`: what analysts built beside the lake, and its removal."""

import os
from typing import Annotated

import typer

from factory_assets.settings import FactorySettings

sandboxes = typer.Typer(no_args_is_help=True, help="Analysts' own areas beside the lake: dbt build --target dev makes them.")


@sandboxes.command("list")
def list_all() -> None:
    """Prints every sandbox with the tables that were built in it."""
    from factory_assets.storage.dbt.sandboxes import list_sandboxes
    from factory_assets.storage.delta.lake import Lake

    found = list_sandboxes(Lake(FactorySettings().lake))
    for sandbox in found:
        typer.echo(f"{sandbox.name}: {', '.join(sandbox.tables) or 'no tables'}")
    if not found:
        typer.echo("there is no sandbox: dbt build --target dev makes one")


@sandboxes.command()
def drop(
    user: Annotated[str | None, typer.Argument(help="Whose; absent: FACTORY_SANDBOX, or your user name.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Lists and removes everything in a user's sandboxes, those that rebuild the past among them. Production stays."""
    from factory_assets.storage.dbt.sandboxes import drop_sandbox, list_sandboxes
    from factory_assets.storage.delta.lake import Lake

    lake = Lake(FactorySettings().lake)
    name = user or os.environ.get("FACTORY_SANDBOX") or os.environ.get("USER") or "me"
    found = list_sandboxes(lake, name)
    if not found:
        typer.echo(f"there is no sandbox of {name!r} beside {lake.root}")
        return
    for sandbox in found:
        for table in sandbox.tables or ("no tables",):
            typer.echo(f"{sandbox.lake.root}: {table}")
    if not yes:
        typer.confirm("Remove all of this?", abort=True)
    for sandbox in found:
        drop_sandbox(lake, sandbox.name)
    typer.echo(f"removed {len(found)} of {name}'s sandboxes")
