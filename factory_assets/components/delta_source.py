"""The DeltaSource component: raw files to one bronze table, under a contract, day by day."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import dagster as dg

from factory_assets.components.calendar import build_partitions, find_calendar
from factory_assets.components.declared import DeclaredComponent
from factory_assets.components.freshness_policies import lag_policy
from factory_assets.components.metering import metered
from factory_assets.components.naming import DAILY_TAGS, SOURCES_GROUP, bronze_key
from factory_assets.components.source_checks import build_source_checks, newest_event, source_check_keys
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.contracts.declarations import Problem
from factory_assets.contracts.source import SourceSpec
from factory_assets.core.calendar_days import closed_days
from factory_assets.resources import ClockResource, LakeResource
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.landing import find_files
from factory_assets.storage.tables.bronze import BronzeWriter, HeldDaysError, IngestReport


class DeltaSource(DeclaredComponent[SourceSpec]):
    """One raw feed: its landing pattern, its keys, and the contract its rows must keep."""

    spec_model = SourceSpec

    @classmethod
    def find_problems(cls, spec: SourceSpec, file: str, context: dg.ComponentLoadContext) -> list[Problem]:
        """A source cut into days needs the calendar."""
        if spec.partitions and find_calendar(context) is None:
            return [Problem(file, 1, "partitions", "there is no calendar: add defs/calendar/defs.yaml, or drop the key")]
        return []

    def build_sound_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """One asset with its checks."""
        calendar = find_calendar(context) if self.spec.partitions else None
        return dg.Definitions(assets=[_build_asset(self.spec, calendar)], asset_checks=build_source_checks(self.spec))

    def monitored_checks(self) -> list[dg.AssetCheckKey]:
        """The checks of the source."""
        return source_check_keys(self.spec)


def _build_asset(spec: SourceSpec, calendar: CalendarSpec | None) -> dg.AssetsDefinition:
    partitions = build_partitions(calendar) if calendar else None
    columns = [
        dg.TableColumn(
            name, column.type, column.description or None, dg.TableColumnConstraints(nullable=not column.required)
        )
        for name, column in spec.columns.items()
    ]

    @dg.asset(
        key=bronze_key(spec.name),
        description=spec.description or f"Raw rows of {spec.landing}, under contract.",
        group_name=SOURCES_GROUP,
        kinds={"delta", spec.format},
        owners=list(spec.owners) or None,
        tags=DAILY_TAGS,
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run() if partitions else None,
        freshness_policy=lag_policy(spec.max_lag),
        metadata={"dagster/column_schema": dg.TableSchema(columns=columns), "landing": spec.landing},
    )
    @metered("source", f"bronze/{spec.name}")
    def source(context: dg.AssetExecutionContext, lake: LakeResource, clock: ClockResource) -> dg.MaterializeResult[Any]:
        store = lake.open()
        files = find_files(lake.landing_folder(), spec, context.partition_keys if partitions else [])
        now = clock.open().now()
        expected = _closed(context.partition_keys, calendar, now) if calendar else []
        writer = BronzeWriter(store, spec, calendar.timezone if calendar else "UTC")
        try:
            report = writer.ingest(files, now, expected)
        except HeldDaysError as error:
            if spec.incidents.when_broken == "stop":
                raise
            context.log.error(str(error))
            report = error.report
        pinned = store.find(bronze_key(spec.name).to_user_string())
        version = "none" if pinned is None else str(pinned.version)
        return dg.MaterializeResult(
            metadata=_describe(report, pinned.row_count if pinned else 0, version) | _newest_event(spec, store),
            data_version=dg.DataVersion(f"delta-{version}"),
        )

    return source


def _newest_event(spec: SourceSpec, store: Lake) -> dict[str, Any]:
    moment = newest_event(spec, store)
    return {} if moment is None else {"newest_event": dg.MetadataValue.timestamp(moment)}


def _describe(report: IngestReport, row_count: int, version: str) -> dict[str, Any]:
    return {
        "dagster/row_count": row_count,
        "delta_version": version,
        "rows_ingested": report.rows,
        "rows_quarantined": report.quarantined,
        "files": report.files,
        "files_unchanged": report.unchanged_files,
        "days_changed": len(report.partitions),
        "days_held": len(report.held),
        **({"held": dg.MetadataValue.md(_list_held(report))} if report.held else {}),
    }


def _list_held(report: IngestReport) -> str:
    return "\n".join(f"- {incident.day}: {incident.summary}" for incident in report.held)


def _closed(days: Sequence[str], calendar: CalendarSpec, now: datetime) -> list[date]:
    """Of `days`, those that have ended, so that their files should be there."""
    closed = closed_days(calendar, now)
    return [date.fromisoformat(day) for day in days if closed is not None and date.fromisoformat(day) <= closed[1]]
