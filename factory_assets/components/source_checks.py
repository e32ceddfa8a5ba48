"""The asset checks of a source: are its days sound, and has its newest event come?"""

from typing import Any

import dagster as dg

from factory_assets.components.naming import bronze_key
from factory_assets.contracts.source import SourceSpec
from factory_assets.resources import LakeResource
from factory_assets.storage.incidents import Incidents

BATCHES_ARE_SOUND = "batches_are_sound"


def source_check_keys(spec: SourceSpec) -> list[dg.AssetCheckKey]:
    """The keys of the source's checks."""
    return [dg.AssetCheckKey(bronze_key(spec.name), BATCHES_ARE_SOUND)]


def build_source_checks(spec: SourceSpec) -> list[dg.AssetChecksDefinition]:
    """The checks of one source."""
    return [_build_batch_check(spec)]


def _build_batch_check(spec: SourceSpec) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=bronze_key(spec.name),
        name=BATCHES_ARE_SOUND,
        description="No day of the feed is held or missing; a held day is kept from readers until it is mended or accepted.",
    )
    def batches_are_sound(lake: LakeResource) -> dg.AssetCheckResult:
        held = Incidents(lake.open()).read_open([spec.name])
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
        metadata: dict[str, Any] = {"days_held": len(held)}
        if rows:
            metadata["findings"] = dg.MetadataValue.table(rows)
        said = " ".join(f"{incident.day}: {incident.summary}" for incident in held) or "No day is held."
        return dg.AssetCheckResult(passed=not held, description=said, metadata=metadata)

    return batches_are_sound
