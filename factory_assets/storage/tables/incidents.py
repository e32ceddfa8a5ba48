"""The one writer of `ops/incidents`: each broken day of a source, from its opening to its repair or acceptance."""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

import pyarrow as pa

from factory_assets.contracts.incidents import Finding, Incident
from factory_assets.contracts.source import PARTITION_COLUMN
from factory_assets.storage.delta.lake import UTC_TIMESTAMP, Lake, TableSpec
from factory_assets.storage.sql import equals_any

INCIDENTS = TableSpec(
    name="ops/incidents",
    schema=pa.schema(
        [
            ("source", pa.string()),
            (PARTITION_COLUMN, pa.date32()),
            ("opened_at_utc", UTC_TIMESTAMP),
            ("kind", pa.string()),
            ("state", pa.string()),
            ("files", pa.string()),
            ("findings", pa.string()),
            ("summary", pa.string()),
            ("recorded_at_utc", UTC_TIMESTAMP),
            ("ended_at_utc", UTC_TIMESTAMP),
            ("ended_recorded_at_utc", UTC_TIMESTAMP),
            ("note", pa.string()),
        ]
    ),
    keys=("source", PARTITION_COLUMN, "opened_at_utc"),
)


class NothingHeldError(LookupError):
    """There is no held day to accept; the message names what is held."""


@dataclass(frozen=True)
class Incidents:
    """One row an incident, written anew at each change of its state. A day of a source has at most one that is not ended."""

    lake: Lake

    def read(self, source: str | None = None) -> list[Incident]:
        """All incidents, or those of one source, by source, day and opening."""
        where, values = ("source = ?", [source]) if source else ("true", [])
        return [_from_row(row) for row in self.lake.rows(INCIDENTS, where, values)]

    def read_of(self, sources: Collection[str]) -> list[Incident]:
        """All incidents of `sources`."""
        return [_from_row(row) for row in self.lake.rows(INCIDENTS, equals_any("source", sources))] if sources else []

    def read_open(self, sources: Collection[str] | None = None) -> list[Incident]:
        """Incidents that still keep a day from its readers; of all sources, or of `sources`."""
        rows = self.lake.rows(INCIDENTS, "state in ('open', 'accepted')")
        return [_from_row(row) for row in rows if sources is None or row["source"] in sources]

    def write(self, incidents: Sequence[Incident]) -> None:
        """Writes the incidents as they are now."""
        if incidents:
            table = pa.Table.from_pylist([_to_row(incident) for incident in incidents], schema=INCIDENTS.schema)
            self.lake.upsert(INCIDENTS, table)

    def accept(self, source: str, day: date, note: str) -> Incident:
        """Says that the held files of a day are right: the next ingest publishes them, unless they have changed by then.

        Raises:
            NothingHeldError: when the day is not held, or has no file that could be published.
        """
        held = [incident for incident in self.read_open([source]) if incident.state == "open"]
        found = next((incident for incident in held if incident.day == day), None)
        if found is None:
            listed = ", ".join(str(incident.day) for incident in held)
            others = f"its held days are {listed}" if held else "no day of a source of that name is held"
            raise NothingHeldError(f"source {source!r} has nothing held on {day}: {others}")
        if found.kind == "late_partition":
            raise NothingHeldError(f"source {source!r} has no file for {day}: land one, and the day is taken in by itself")
        accepted = replace(found, state="accepted", note=note)
        self.write([accepted])
        return accepted


def _to_row(incident: Incident) -> dict[str, Any]:
    row = {name: getattr(incident, name) for name in Incident.__dataclass_fields__ if name not in ("day", "findings")}
    findings = json.dumps([asdict(finding) for finding in incident.findings])
    return {**row, PARTITION_COLUMN: incident.day, "findings": findings}


def _from_row(row: dict[str, Any]) -> Incident:
    findings = tuple(Finding(**finding) for finding in json.loads(row["findings"]))
    kept = {name: value for name, value in row.items() if name not in (PARTITION_COLUMN, "findings")}
    return Incident(**kept, day=row[PARTITION_COLUMN], findings=findings)
