"""The one writer of `ops/training_cycles`: what each cycle of a line was made from, and what its fleet was worth."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from factory_assets.core.metrics import unless_nan
from factory_assets.storage.delta.lake import UTC_TIMESTAMP, Lake, TableSpec

TRAINING_CYCLES = TableSpec(
    name="ops/training_cycles",
    schema=pa.schema(
        [
            ("line", pa.string()),
            ("inputs", pa.string()),
            ("version", pa.int64()),
            ("sequence", pa.int64()),
            ("cycle", pa.string()),
            ("training_set_version", pa.int64()),
            ("segments", pa.int64()),
            ("fitted", pa.int64()),
            ("failed", pa.int64()),
            ("metric", pa.string()),
            ("exam_rows", pa.int64()),
            ("fleet_value", pa.float64()),
            ("global_value", pa.float64()),
            ("deepest_level", pa.int64()),
            ("artefact_path", pa.string()),
            ("mlflow_run_id", pa.string()),
            ("recorded_at_utc", UTC_TIMESTAMP),
        ]
    ),
    keys=("line", "inputs"),
)


@dataclass(frozen=True)
class TrainingCycle:
    """One cycle. `inputs` is what it can be known by before a row is read: declaration, pinned versions, code, request.

    `sequence` is that of its decisions, which it is recorded before: a cycle whose decisions are not there was cut off.
    `fleet_value` and `global_value` are the line's metric on the exam; None for a line of one model, and for a cycle of
    some segments only, whose fleet keeps the last `deepest_level`. Of an exam that tells nothing they are NaN, null in the
    table.
    """

    line: str
    inputs: str
    version: int
    sequence: int
    cycle: str
    training_set_version: int
    segments: int
    fitted: int
    failed: int
    metric: str
    exam_rows: int | None
    fleet_value: float | None
    global_value: float | None
    deepest_level: int
    artefact_path: str
    mlflow_run_id: str
    recorded_at_utc: datetime


@dataclass(frozen=True)
class TrainingCycles:
    """Reads and writes the cycles of all lines."""

    lake: Lake

    def find(self, line: str, inputs: str) -> TrainingCycle | None:
        """The cycle of exactly these inputs, if there was one."""
        return _first(self.lake.rows(TRAINING_CYCLES, "line = ? and inputs = ?", [line, inputs]))

    def newest(self, line: str, sequence: int) -> TrainingCycle | None:
        """The newest cycle whose decisions are among the first `sequence`."""
        rows = self.lake.rows(TRAINING_CYCLES, "line = ? and sequence <= ?", [line, sequence])
        return _first(sorted(rows, key=lambda row: (row["sequence"], row["recorded_at_utc"]), reverse=True))

    def record(self, cycle: TrainingCycle) -> None:
        """Writes one cycle; the same inputs again replace it."""
        row = {name: getattr(cycle, name) for name in TRAINING_CYCLES.schema.names}
        row |= {name: unless_nan(row[name]) for name in ("fleet_value", "global_value")}
        self.lake.upsert(TRAINING_CYCLES, pa.Table.from_pylist([row], schema=TRAINING_CYCLES.schema))


def _first(rows: list[dict[str, Any]]) -> TrainingCycle | None:
    return TrainingCycle(**rows[0]) if rows else None
