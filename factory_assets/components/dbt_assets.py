"""A dbt project's tables as assets and its tests as checks: keys, metadata, and the run of any subset.

The events of dbt's own logger become Dagster events through dagster-dbt.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, dbt_assets
from dagster_dbt.asset_utils import get_asset_check_key_for_test
from dagster_dbt.core.dbt_cli_event import DbtCoreCliEventMessage

from factory_assets.components.column_lineage import table_lineage
from factory_assets.components.freshness_policies import lag_policy
from factory_assets.components.metering import metered
from factory_assets.components.naming import DAILY_TAGS, DBT_POOL, bronze_key, table_key
from factory_assets.core.transformations.lineage import attach_tests
from factory_assets.resources import LakeResource
from factory_assets.storage.dbt.meanings import TableMeaning, read_table_meanings
from factory_assets.storage.dbt.runs import DbtOutcome, DbtRuns
from factory_assets.storage.tables.training_sets import FEATURES_SCHEMA

_TABLES = ("model", "snapshot", "seed")


class FactoryTranslator(DagsterDbtTranslator):
    """Keys of dbt nodes are the folders of their Delta tables: `marts/fct_flight`, `bronze/flights`."""

    def __init__(self, settings: DagsterDbtTranslatorSettings, meanings: Mapping[str, TableMeaning]) -> None:
        super().__init__(settings)
        self.meanings = meanings

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """The table's folder below the lake's root."""
        if dbt_resource_props["resource_type"] == "source":
            return bronze_key(dbt_resource_props["name"])
        return table_key(dbt_resource_props["schema"], dbt_resource_props["name"])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """The layer: staging, marts or features."""
        return str(dbt_resource_props["schema"])

    def get_tags(self, dbt_resource_props: Mapping[str, Any]) -> Mapping[str, str]:
        """Dbt's own tags, and the daily cadence."""
        return {**super().get_tags(dbt_resource_props), **DAILY_TAGS}

    def get_code_version(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """What the model means: an edit of layout or comments is no other version, one of a macro or a variable is."""
        meaning = self.find_meaning(dbt_resource_props)
        return meaning.fingerprint if meaning else super().get_code_version(dbt_resource_props)

    def find_meaning(self, dbt_resource_props: Mapping[str, Any]) -> TableMeaning | None:
        """The meaning of a node that is a table; None for any other."""
        name = dbt_resource_props.get("alias") or dbt_resource_props["name"]
        return self.meanings.get(f"{dbt_resource_props.get('schema')}.{name}".lower())

    def get_metadata(self, dbt_resource_props: Mapping[str, Any]) -> Mapping[str, Any]:
        """Dbt's own, and the columns that each column comes from."""
        meaning = self.find_meaning(dbt_resource_props)
        return {**super().get_metadata(dbt_resource_props), **(table_lineage(meaning.values_from) if meaning else {})}

    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """What the analyst wrote, without the SQL that the UI shows anyway."""
        return str(dbt_resource_props.get("description") or "")


def list_test_keys(manifest: Mapping[str, Any]) -> list[dg.AssetCheckKey]:
    """The asset checks that the project's tests are."""
    translator = FactoryTranslator(DagsterDbtTranslatorSettings(enable_source_tests_as_checks=True), {})
    tests = [name for name, node in manifest["nodes"].items() if node["resource_type"] == "test"]
    keys = (get_asset_check_key_for_test(manifest, translator, test, None) for test in tests)
    return [key for key in keys if key is not None]


def build_dbt_assets(runs: DbtRuns, late: Mapping[str, dg.FreshnessPolicy]) -> dg.AssetsDefinition:
    """The project's tables as assets of one step, any subset of which can be run; `late` has policies by feature set."""
    manifest = attach_tests(runs.read_manifest())
    meanings = read_table_meanings(runs, manifest)
    translator = FactoryTranslator(DagsterDbtTranslatorSettings(enable_source_tests_as_checks=True), meanings)

    @dbt_assets(manifest=manifest, dagster_dbt_translator=translator, name="dbt_project", pool=DBT_POOL)
    @metered("dbt", "dbt_project")
    def dbt_project(context: dg.AssetExecutionContext, lake: LakeResource) -> Iterator[Any]:
        outcome = DbtRuns(runs.project, runs.work, lake.root).build(_select(context, manifest, translator))
        yield from _to_dagster(context, outcome, manifest, translator, lake)
        if not outcome.success:
            remedy = (
                "Readers keep what they had of these models and of all that is built from them. The SQL as it was compiled"
                f" lies below {runs.target / 'compiled'}. Mend the model, or the rows that its test names, and run it again."
            )
            raise dg.Failure("\n".join(["dbt build failed:", *outcome.failures, remedy]), allow_retries=False)

    return dbt_project.map_asset_specs(
        lambda spec: spec.replace_attributes(
            kinds={"dbt", "delta"}, freshness_policy=late.get(_feature_set(spec.key), lag_policy(None))
        )
    )


def _feature_set(key: dg.AssetKey) -> str:
    """The name that lines know a feature set by; empty for a table of another layer."""
    return key.path[-1] if key == table_key(FEATURES_SCHEMA, key.path[-1]) else ""


def _select(context: dg.AssetExecutionContext, manifest: Mapping[str, Any], translator: DagsterDbtTranslator) -> list[str]:
    """Dbt selectors of the selected assets; none when that is the whole project."""
    names = {
        translator.get_asset_key(node): ".".join(node["fqn"])
        for node in manifest["nodes"].values()
        if node["resource_type"] in _TABLES
    }
    selected = context.selected_asset_keys
    return [] if selected >= set(names) else sorted(name for key, name in names.items() if key in selected)


def _to_dagster(
    context: dg.AssetExecutionContext,
    outcome: DbtOutcome,
    manifest: Mapping[str, Any],
    translator: FactoryTranslator,
    lake: LakeResource,
) -> Iterator[Any]:
    """Dagster's events of what was published. A model that is held is no materialization: its step fails."""
    store = lake.open()
    for raw in outcome.events:
        event = DbtCoreCliEventMessage(raw_event=raw, event_history_metadata={})
        for dagster_event in event.to_default_asset_events(manifest, translator, context):
            if isinstance(dagster_event, dg.Output):
                node = raw["data"]["node_info"]["unique_id"]
                if node not in outcome.versions:
                    continue
                props = manifest["nodes"][node]
                pinned = store.pin(translator.get_asset_key(props).to_user_string(), outcome.versions[node])
                meaning = translator.find_meaning(props)
                metadata = {"delta_version": str(pinned.version), "dagster/row_count": pinned.row_count}
                metadata |= table_lineage(meaning.values_from) if meaning else {}
                context.add_output_metadata(metadata, output_name=dagster_event.output_name)
            yield dagster_event
