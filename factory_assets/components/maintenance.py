"""The Maintenance component: one asset whose daily run compacts, checkpoints and vacuums the tables of the lake."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from factory_assets.components.calendar import find_calendar
from factory_assets.components.dbt_project import find_pins
from factory_assets.components.declared import DeclaredComponent
from factory_assets.components.model_line import ModelLine
from factory_assets.components.naming import (
    DBT_POOL,
    MAINTENANCE_JOB,
    MAINTENANCE_SCHEDULE,
    UPKEEP_GROUP,
    maintenance_key,
)
from factory_assets.components.scheduled_job import build_scheduled_job
from factory_assets.contracts.maintenance import MaintenanceSpec, TableCare
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.lines.upkeep import care_for_lake
from factory_assets.resources import LakeResource
from factory_assets.storage.dbt.time_travel import Pin


class Maintenance(DeclaredComponent[MaintenanceSpec]):
    """The care for the lake's tables: which, how often, and how long what is no longer newest is kept."""

    spec_model = MaintenanceSpec

    def build_sound_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """One asset, its job and its schedule."""
        lines = [line.spec for line in context.component_tree.get_all_components(of_type=ModelLine) if not line.problems]
        calendar = find_calendar(context)
        hour, minute = self.spec.at.split(":")
        rounds = build_scheduled_job(
            (MAINTENANCE_JOB, MAINTENANCE_SCHEDULE),
            dg.AssetSelection.assets(maintenance_key()),
            f"{int(minute)} {int(hour)} * * *",
            calendar.timezone if calendar else "UTC",
            does="Compacts, checkpoints and vacuums the tables of the lake.",
            why="One round of care a day.",
        )
        # Load goes on without the pins; the round does not.
        try:
            pins: Mapping[str, Pin] | str = find_pins(context)
        except LookupError as error:
            pins = str(error)
        return dg.Definitions.merge(dg.Definitions(assets=[_build_asset(self.spec, lines, pins)]), rounds)


def _build_asset(
    spec: MaintenanceSpec, lines: Sequence[ModelLineSpec], pins: Mapping[str, Pin] | str
) -> dg.AssetsDefinition:
    @dg.asset(
        key=maintenance_key(),
        description=(
            "One round of care for the tables of the lake: small files put together, a checkpoint of the log, and files "
            "that no version needs any more deleted. What a champion, or the one before it, learnt from stays readable, and "
            "so does what the dbt project pins."
        ),
        group_name=UPKEEP_GROUP,
        kinds={"delta"},
        pool=DBT_POOL,
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=spec.retention),
    )
    def maintenance(lake: LakeResource) -> dg.MaterializeResult[Any]:
        if isinstance(pins, str):
            raise dg.Failure(
                f"{pins}: nothing was deleted; mend the project, and the next round goes on", allow_retries=False
            )
        cared = care_for_lake(lake.open(), spec, lines, pins)
        problems = [f"{care.table}: {care.problem}" for care in cared if care.problem]
        if problems:
            raise dg.Failure("tables that could not be cared for:\n" + "\n".join(problems), _describe(cared), False)
        return dg.MaterializeResult(metadata=_describe(cared))

    return maintenance


def _describe(cared: Sequence[TableCare]) -> dict[str, Any]:
    records = [
        dg.TableRecord(
            {
                "table": care.table,
                "rows": care.rows,
                "version": care.version_after,
                "files before": care.files_before,
                "files after": care.files_after,
                "files freed": care.files_freed,
                "bytes freed": care.bytes_freed,
                "versions kept": " ".join(map(str, care.kept_versions)),
            }
        )
        for care in cared
    ]
    texts = ("table", "versions kept")
    columns = [dg.TableColumn(name, "string" if name in texts else "int") for name in (records[0].data if records else ())]
    return {
        "tables": len(cared),
        "files_before": sum(care.files_before for care in cared),
        "files_after": sum(care.files_after for care in cared),
        "files_freed": sum(care.files_freed for care in cared),
        "bytes_freed": sum(care.bytes_freed for care in cared),
        "care": dg.MetadataValue.table(records, dg.TableSchema(columns)),
    }
