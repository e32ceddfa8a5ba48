"""A sandbox: a project of its own with a `defs` folder, built exactly as the product's own is."""

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from factory_assets.definitions import build_definitions
from factory_assets.settings import FactorySettings

ROOT = Path(__file__).parents[2]
CALENDAR = {"start": "2013-01-01", "end": "2014-01-01", "timezone": "America/New_York"}


class Sandbox:
    """Declarations in, definitions out."""

    def __init__(self, root: Path, package: str) -> None:
        self.root = root
        self.package = root / package
        self.settings = FactorySettings(project_dir=root, data_dir=root / "data")

    def declare(self, place: str, kind: str, attributes: dict[str, Any] | str) -> Path:
        file = self.package / "defs" / place / "defs.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(attributes, str):
            body = "attributes:\n" + textwrap.indent(textwrap.dedent(attributes), "  ")
        else:
            body = yaml.safe_dump({"attributes": attributes}, sort_keys=False)
        file.write_text(f"type: factory_assets.components.{kind}\n{body}", encoding="utf-8")
        return file

    def build(self) -> dg.Definitions:
        return build_definitions(self.package, self.settings)


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    package = f"sandbox_{abs(hash(request.node.nodeid)):x}"
    (tmp_path / package / "defs").mkdir(parents=True)
    for folder in (tmp_path / package, tmp_path / package / "defs"):
        (folder / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text(
        f'[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "{package}"\n'
    )
    (tmp_path / "dbt_project").symlink_to(ROOT / "dbt_project")
    monkeypatch.setenv("FACTORY_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.syspath_prepend(str(tmp_path))
    sandbox = Sandbox(tmp_path, package)
    sandbox.declare("calendar", "Calendar", CALENDAR)
    yield sandbox
    for module in [name for name in sys.modules if name.split(".")[0] == package]:
        del sys.modules[module]


@pytest.fixture
def keys_of() -> Callable[[dg.Definitions], set[str]]:
    def keys(definitions: dg.Definitions) -> set[str]:
        graph = definitions.resolve_asset_graph()
        return {key.to_user_string() for key in graph.get_all_asset_keys()}

    return keys
