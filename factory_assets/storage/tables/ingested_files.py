"""The one writer of `ops/ingested_files`: which files are in, and by which contract they were read."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa

from factory_assets.contracts.source import PARTITION_COLUMN, SourceSpec
from factory_assets.storage.delta.lake import UTC_TIMESTAMP, Lake, TableSpec
from factory_assets.storage.landing import LandedFile, days_of
from factory_assets.storage.sql import equals_any, literal

INGESTED_FILES = TableSpec(
    name="ops/ingested_files",
    schema=pa.schema(
        [
            ("source", pa.string()),
            (PARTITION_COLUMN, pa.date32()),
            ("file", pa.string()),
            ("sha256", pa.string()),
            ("contract", pa.string()),
            ("ingested_at_utc", UTC_TIMESTAMP),
        ]
    ),
    keys=("source", PARTITION_COLUMN, "file"),
    partition_by=("source",),
)


@dataclass(frozen=True)
class IngestedFiles:
    """The files of one source that are in."""

    lake: Lake
    spec: SourceSpec

    def changed(self, files: Sequence[LandedFile]) -> list[LandedFile]:
        """Files of the days whose files, or whose contract, are not those that were ingested."""
        contract = _fingerprint(self.spec)
        known: dict[date | None, set[tuple[str, str, str]]] = {}
        for row in self.lake.rows(INGESTED_FILES, "source = ?", [self.spec.name]):
            known.setdefault(row[PARTITION_COLUMN], set()).add((row["file"], row["sha256"], row["contract"]))
        seen: dict[date | None, set[tuple[str, str, str]]] = {}
        for file in files:
            seen.setdefault(file.day, set()).add((file.name, file.sha256, contract))
        return [file for file in files if known.get(file.day) != seen[file.day]]

    def days(self) -> list[date]:
        """The days of which any file is in, oldest first."""
        ingested = self.lake.rows(INGESTED_FILES, "source = ?", [self.spec.name])
        return sorted({row[PARTITION_COLUMN] for row in ingested if row[PARTITION_COLUMN] is not None})

    def record(self, files: Sequence[LandedFile], now: datetime) -> None:
        """Replaces what is known of the files' days."""
        rows = [
            {
                "source": self.spec.name,
                PARTITION_COLUMN: file.day,
                "file": file.name,
                "sha256": file.sha256,
                "contract": _fingerprint(self.spec),
                "ingested_at_utc": now,
            }
            for file in files
        ]
        days = equals_any(PARTITION_COLUMN, days_of(files))
        table = pa.Table.from_pylist(rows, schema=INGESTED_FILES.schema)
        self.lake.replace(INGESTED_FILES, table, f"source = {literal(self.spec.name)} and ({days})")


def _fingerprint(spec: SourceSpec) -> str:
    """What decides how a file is read, as one hash."""
    rules = spec.model_dump_json(include={"format", "null_values", "keys", "columns", "partitions"})
    return hashlib.sha256(rules.encode()).hexdigest()
