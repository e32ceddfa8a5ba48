"""The asset checks of a source: are its days sound, and has its newest event come?"""

from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from factory_assets.components.naming import bronze_key
from factory_assets.contracts.names import format_duration
from factory_assets.contracts.source import SourceSpec
from factory_assets.core.monitoring.freshness import evaluate_freshness
from factory_assets.core.pictures.history_plots import MOST_BATCHES, plot_batches
from factory_assets.core.pictures.plots import image_markdown, plot_freshness
from factory_assets.resources import ClockResource, LakeResource
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.sql import quote_identifier
from factory_assets.storage.tables.batch_profiles import BatchProfiles
from factory_assets.storage.tables.incidents import Incidents

BATCHES_ARE_SOUND = "batches_are_sound"
DATA_FRESHNESS = "data_freshness"


def source_check_keys(spec: SourceSpec) -> list[dg.AssetCheckKey]:
    """The keys of the source's checks."""
    names = [BATCHES_ARE_SOUND, *([DATA_FRESHNESS] if spec.max_lag else [])]
    return [dg.AssetCheckKey(bronze_key(spec.name), name) for name in names]


def build_source_checks(spec: SourceSpec) -> list[dg.AssetChecksDefinition]:
    """The checks of one source."""
    return [_build_batch_check(spec), *([_build_freshness_check(spec, spec.max_lag)] if spec.max_lag else [])]


def newest_event(spec: SourceSpec, lake: Lake) -> datetime | None:
    """How far the feed has come by its own event time, which a fresh file may hide."""
    table = lake.find(bronze_key(spec.name).to_user_string())
    if spec.event_time is None or table is None:
        return None
    found = lake.query(f"select max({quote_identifier(spec.event_time)}) as newest from t", t=table)
    moment: datetime | None = found.column("newest")[0].as_py()
    return moment


def _build_freshness_check(spec: SourceSpec, max_lag: timedelta) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=bronze_key(spec.name),
        name=DATA_FRESHNESS,
        description=f"The newest event is at most {format_duration(max_lag)} old, whenever its file came.",
    )
    def data_freshness(lake: LakeResource, clock: ClockResource) -> dg.AssetCheckResult:
        report = evaluate_freshness(spec.name, newest_event(spec, lake.open()), clock.open().now(), max_lag)
        lag_hours = None if report.lag_seconds is None else report.lag_seconds / 3600
        picture = dg.MetadataValue.md(image_markdown(plot_freshness(report), report.reason))
        return dg.AssetCheckResult(
            passed=report.fresh,
            severity=dg.AssetCheckSeverity.WARN,
            description=report.reason,
            metadata={"picture": picture, "lag_hours": lag_hours, "limit_hours": report.limit_seconds / 3600},
        )

    return data_freshness


def _build_batch_check(spec: SourceSpec) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=bronze_key(spec.name),
        name=BATCHES_ARE_SOUND,
        description="No day of the feed is held or missing; a held day is kept from readers until it is mended or accepted.",
    )
    def batches_are_sound(lake: LakeResource) -> dg.AssetCheckResult:
        opened = lake.open()
        held = Incidents(opened).read_open([spec.name])
        rows = [
            dg.TableRecord(
                {
                    "day": str(incident.day),
                    "kind": finding.kind,
                    "column": finding.column,
                    "rows": finding.rows,
                    "expected": finding.expected,
                    "found": finding.found,
                }
            )
            for incident in held
            for finding in incident.findings
        ]
        said = " ".join(f"{incident.day}: {incident.summary}" for incident in held) or "No day is held."
        batches = BatchProfiles(opened, spec.name).rows_by_day(MOST_BATCHES)
        picture = plot_batches(batches, {incident.day for incident in held})
        metadata: dict[str, Any] = {
            "picture": dg.MetadataValue.md(image_markdown(picture, said)),
            "days_held": len(held),
        }
        if rows:
            metadata["findings"] = dg.MetadataValue.table(rows)
        return dg.AssetCheckResult(passed=not held, description=said, metadata=metadata)

    return batches_are_sound
