"""The DbtProject component: the analysts' dbt project as assets, with its tests as asset checks.

`dbt build` on the command line and a run in Dagster do the same: the same project, profile, plugin and materialization.
The assets themselves are in `components/dbt_assets.py`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field

from factory_assets.components.declared import DeclaredComponent
from factory_assets.components.freshness_policies import features_policies
from factory_assets.contracts.declarations import Problem
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.core.transformations.lineage import contracted_columns, upstream_sources
from factory_assets.settings import FactorySettings
from factory_assets.storage.dbt.meanings import TableMeaning, read_table_meanings
from factory_assets.storage.dbt.runs import DbtParseError, DbtRuns
from factory_assets.storage.dbt.time_travel import Pin, TimeTravelError, declared_pins


class DbtProjectSpec(BaseModel):
    """Where the dbt project lies."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(default="dbt_project", description="Folder of dbt_project.yml, from the project's root.")


class DbtProject(DeclaredComponent[DbtProjectSpec]):
    """One dbt project over the lake. Its sources are the bronze tables of the same name."""

    spec_model = DbtProjectSpec
    _manifest: Mapping[str, Any] | None = None
    _meanings: Mapping[str, TableMeaning] | None = None

    @classmethod
    def find_problems(cls, spec: DbtProjectSpec, file: str, context: dg.ComponentLoadContext) -> list[Problem]:
        """A project that is missing or does not parse is broken by itself; models of it then fail to load by name."""
        project = context.project_root / spec.path
        if not (project / "dbt_project.yml").is_file():
            return [Problem(file, 1, "path", f"{project} has no dbt_project.yml: write the folder of the dbt project")]
        try:
            tuple(declared_pins(build_runs(project).read_manifest()))
        except (DbtParseError, TimeTravelError) as error:
            return [Problem(file, 1, "path", str(error))]
        return []

    def manifest(self, root: Path) -> Mapping[str, Any]:
        """The manifest as it was at load; read once, however many lines ask for it."""
        if self._manifest is None:
            self._manifest = build_runs(root / self.spec.path).read_manifest()
        return self._manifest

    def columns(self, root: Path, model: str) -> frozenset[str] | None:
        """Columns of a model, in lower case, by its enforced contract, else by its SQL; None if that does not name all."""
        manifest = self.manifest(root)
        contract = contracted_columns(manifest, model)
        if contract is not None:
            return contract
        if self._meanings is None:
            self._meanings = read_table_meanings(build_runs(root / self.spec.path), manifest)
        for node in manifest["nodes"].values():
            if node["resource_type"] == "model" and node["name"] == model:
                meaning = self._meanings.get(f"{node['schema']}.{node['alias']}".lower())
                return None if meaning is None or meaning.is_open else frozenset(meaning.values_from)
        return None

    def test_keys(self, root: Path) -> list[dg.AssetCheckKey]:
        """The asset checks that the project's tests are."""
        # Importing dagster-dbt and dbt takes 1.5 s of CPU: reading what is declared must not pay for it.
        from factory_assets.components.dbt_assets import list_test_keys

        return list_test_keys(self.manifest(root))

    def build_sound_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """One multi-asset over the whole project, of which any subset can be run."""
        from factory_assets.components.dbt_assets import build_dbt_assets

        runs = build_runs(context.project_root / self.spec.path)
        declared = context.component_tree.get_all_components(of_type=DeclaredComponent)  # type: ignore[type-abstract]
        specs = [component.spec for component in declared if not component.problems]
        late = features_policies(spec for spec in specs if isinstance(spec, ModelLineSpec))
        return dg.Definitions(assets=[build_dbt_assets(runs, late)])


def find_sources(context: dg.ComponentLoadContext, models: Sequence[str]) -> tuple[str, ...]:
    """Names of the sources that `models` of the declared dbt projects are built from."""
    projects = context.component_tree.get_all_components(of_type=DbtProject)
    manifests = [project.manifest(context.project_root) for project in projects if not project.problems]
    return tuple(sorted({name for manifest in manifests for name in upstream_sources(manifest, models)}))


def find_columns(context: dg.ComponentLoadContext, model: str) -> frozenset[str] | None:
    """The columns that a model of the declared dbt projects may have; None where only a run can tell."""
    for project in context.component_tree.get_all_components(of_type=DbtProject):
        columns = None if project.problems else project.columns(context.project_root, model)
        if columns is not None:
            return columns
    return None


def find_pins(context: dg.ComponentLoadContext) -> dict[str, Pin]:
    """The tables that the declared dbt projects pin to a version or an instant.

    Raises:
        LookupError: A project is broken, so that its pins are not known.
    """
    projects = context.component_tree.get_all_components(of_type=DbtProject)
    broken = [str(problem) for project in projects for problem in project.problems]
    if broken:
        raise LookupError("a dbt project does not load, so the versions that it pins are not known: " + "; ".join(broken))
    manifests = [project.manifest(context.project_root) for project in projects]
    return {table: pin for manifest in manifests for table, pin in declared_pins(manifest)}


def build_runs(project: Path) -> DbtRuns:
    """Dbt over `project`, with this installation's lake."""
    settings = FactorySettings()
    return DbtRuns(project, settings.data / "dbt", settings.lake)
