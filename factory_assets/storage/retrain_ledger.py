"""The one writer of `ops/retrain_ledger`: why each retrain started, and what came of it."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from factory_assets.contracts.reports import LedgerEntry
from factory_assets.storage.delta import UTC_TIMESTAMP, Lake, TableSpec

RETRAIN_LEDGER = TableSpec(
    name="ops/retrain_ledger",
    schema=pa.schema(
        [
            ("line", pa.string()),
            ("run_key", pa.string()),
            ("attempt", pa.int64()),
            ("causes", pa.list_(pa.string())),
            ("state", pa.string()),
            ("at_utc", UTC_TIMESTAMP),
            ("recorded_at_utc", UTC_TIMESTAMP),
            ("reason", pa.string()),
            ("run_id", pa.string()),
        ]
    ),
    keys=("line", "run_key", "state"),
    sort_by=("recorded_at_utc",),
)


@dataclass(frozen=True)
class RetrainLedger:
    """Each request is one `run_key`; each `run_key` has at most one row a state, so writing twice changes nothing."""

    lake: Lake

    def entries(self, line: str) -> list[LedgerEntry]:
        """All entries of a line, oldest first."""
        return [_from_row(row) for row in self.lake.rows(RETRAIN_LEDGER, "line = ?", [line])]

    def record(self, entry: LedgerEntry) -> None:
        """Writes one entry, unless this request already has one of the same state."""
        if any((e.run_key, e.state) == (entry.run_key, entry.state) for e in self.entries(entry.line)):
            return
        row = {name: getattr(entry, name) for name in RETRAIN_LEDGER.schema.names}
        self.lake.upsert(RETRAIN_LEDGER, pa.Table.from_pylist([row], schema=RETRAIN_LEDGER.schema))


def _from_row(row: dict[str, Any]) -> LedgerEntry:
    return LedgerEntry(**{**row, "causes": tuple(row["causes"])})
