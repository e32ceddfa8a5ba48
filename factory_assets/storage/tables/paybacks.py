"""The one writer of `ops/paybacks`: each promotion beside the model it replaced, on the rows that came after."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from factory_assets.contracts.paybacks import Payback
from factory_assets.storage.delta.lake import UTC_TIMESTAMP, Lake, TableSpec

PAYBACKS = TableSpec(
    name="ops/paybacks",
    schema=pa.schema(
        [
            ("line", pa.string()),
            ("segment", pa.string()),
            ("version", pa.int64()),
            ("replaced_segment", pa.string()),
            ("replaced_version", pa.int64()),
            ("promoted_at_utc", UTC_TIMESTAMP),
            ("judged_until_utc", UTC_TIMESTAMP),
            ("metric", pa.string()),
            ("rows", pa.int64()),
            ("days", pa.int64()),
            ("value", pa.float64()),
            ("replaced_value", pa.float64()),
            ("gain", pa.float64()),
            ("gain_low", pa.float64()),
            ("gain_high", pa.float64()),
            ("least_gain", pa.float64()),
            ("verdict", pa.string()),
            ("reason", pa.string()),
            ("judged_at_utc", UTC_TIMESTAMP),
        ]
    ),
    keys=("line", "segment", "version"),
)


@dataclass(frozen=True)
class Paybacks:
    """One row a promotion that was judged. A promotion is judged once; judged again, its row is replaced."""

    lake: Lake

    def record(self, line: str, paybacks: Sequence[Payback]) -> None:
        """Writes judgements in one commit."""
        if paybacks:
            rows = [_to_row(line, payback) for payback in paybacks]
            self.lake.upsert(PAYBACKS, pa.Table.from_pylist(rows, schema=PAYBACKS.schema))

    def of_line(self, line: str) -> list[dict[str, Any]]:
        """The judgements on a line's promotions."""
        return self.lake.rows(PAYBACKS, "line = ?", [line])


def _to_row(line: str, payback: Payback) -> dict[str, Any]:
    values = {**asdict(payback.replacement), **asdict(payback.gain)}
    # NaN has no meaning of its own in a table: what is not known is null.
    known = {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}
    return {
        "line": line,
        **known,
        "judged_until_utc": payback.judged_until_utc,
        "judged_at_utc": payback.judged_at_utc,
    }
