"""What an installation needs before it runs: Dagster's home, and the lines it declares."""

import os
from importlib.resources import files

import dagster as dg

from factory_assets.components.calendar import Calendar
from factory_assets.components.model_line import ModelLine
from factory_assets.components.naming import RANGE_EVENTS_SWITCH
from factory_assets.components.tree import TolerantTree
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.contracts.declarations import Problem
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.resources import build_resources
from factory_assets.settings import FactorySettings
from factory_assets.storage.generated_settings import write_generated


def prepare_dagster_home(settings: FactorySettings) -> str:
    """Makes the home with the shipped dagster.yaml, and points this process and its children at it.

    A home that is there takes over what a later release ships, unless a person edited its file: that one is kept, and a
    sentence returned that names what differs.
    """
    home = settings.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    shipped = files("factory_assets").joinpath("dagster.yaml").read_text(encoding="utf-8")
    config = home / "dagster.yaml"
    differing = write_generated(config, shipped)
    os.environ["DAGSTER_HOME"] = str(home)
    os.environ["FACTORY_DATA_DIR"] = str(settings.data)
    # One planned event for a range of days and asset, not one for each day: 120 days are 2,040 events, 12 s of CPU.
    os.environ.setdefault(RANGE_EVENTS_SWITCH, "true")
    if not differing:
        return ""
    return (
        f"{config} was edited and is kept; it differs from what this release ships in {', '.join(differing)}. "
        "Delete it to take over the shipped settings."
    )


def load_lines(settings: FactorySettings) -> list[ModelLineSpec]:
    """The sound model lines of this installation, by name."""
    tree = _read_tree(settings)
    tree.find_broken()
    lines = [line.spec for line in tree.get_all_components(of_type=ModelLine) if not line.problems]
    return sorted(lines, key=lambda line: line.name)


def load_calendar(settings: FactorySettings) -> CalendarSpec | None:
    """The calendar of this installation; None when there is none, or a broken one."""
    calendars = _read_tree(settings).get_all_components(of_type=Calendar)
    return calendars[0].declared if calendars else None


def find_declaration_problems(settings: FactorySettings) -> list[Problem]:
    """Everything that is wrong in the declarations here; of sound ones, what keeps them from loading together."""
    tree, bound = _read_tree(settings), dg.Definitions(resources=build_resources(settings))
    problems = [problem for entry in tree.set_broken_aside(bound) for problem in entry.problems]
    fault = None if problems else tree.find_fault(bound)
    return [Problem("factory_assets/defs", 1, "", f"nothing can be loaded: {fault}")] if fault else problems


def _read_tree(settings: FactorySettings) -> TolerantTree:
    return TolerantTree.for_project(settings.project_dir / "factory_assets")
