"""The code location: every declaration below `defs/`, bound to this installation's resources."""

from pathlib import Path

import dagster as dg

from factory_assets.components.tree import TolerantTree
from factory_assets.resources import build_resources
from factory_assets.settings import FactorySettings
from factory_assets.storage.sqlite_files import ease_sqlite


@dg.definitions
def defs() -> dg.Definitions:
    """The definitions of this package."""
    return build_definitions(Path(__file__).parent, FactorySettings())


def build_definitions(package: Path, settings: FactorySettings) -> dg.Definitions:
    """Everything declared in `package`/defs. Loads offline: nothing connects, reads a table or logs in."""
    ease_sqlite()
    declared = TolerantTree.for_project(package).build_all()
    bound = dg.Definitions(resources=build_resources(settings), executor=dg.in_process_executor)
    return dg.Definitions.merge(declared, bound)
