"""The one writer of `ops/check_results`: every verdict on a line, with its numbers, so that any table can be recomputed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from factory_assets.storage.delta.lake import UTC_TIMESTAMP, Lake, TableSpec
from factory_assets.storage.sql import SqlValue, equals_any

CHECK_RESULTS = TableSpec(
    name="ops/check_results",
    schema=pa.schema(
        [
            ("line", pa.string()),
            ("check", pa.string()),
            ("champion_version", pa.int64()),
            ("data_as_of_utc", UTC_TIMESTAMP),
            ("evaluated_at_utc", UTC_TIMESTAMP),
            ("passed", pa.bool_()),
            ("summary", pa.string()),
            ("numbers", pa.string()),
            ("dagster_run_id", pa.string()),
        ]
    ),
    keys=("line", "check", "champion_version", "evaluated_at_utc"),
)


@dataclass(frozen=True)
class CheckResults:
    """One row a line, check, champion and factory instant: judging the same thing again replaces its row."""

    lake: Lake

    def record(
        self,
        line: str,
        check: str,
        *,
        champion_version: int,
        data_as_of_utc: datetime,
        evaluated_at_utc: datetime,
        passed: bool,
        summary: str,
        numbers: Mapping[str, Any],
        run_id: str,
    ) -> None:
        """Writes one verdict. `champion_version` is 0 when no model serves yet."""
        row: dict[str, SqlValue] = {
            "line": line,
            "check": check,
            "champion_version": champion_version,
            "data_as_of_utc": data_as_of_utc,
            "evaluated_at_utc": evaluated_at_utc,
            "passed": passed,
            "summary": summary,
            "numbers": json.dumps(numbers, default=str),
            "dagster_run_id": run_id,
        }
        rows = pa.Table.from_pylist([row], schema=CHECK_RESULTS.schema)
        # A merge reads every file of the table, and there is one for each verdict.
        self.lake.replace(CHECK_RESULTS, rows, " and ".join(equals_any(key, [row[key]]) for key in CHECK_RESULTS.keys))

    def newest_numbers(self, line: str, check: str) -> dict[str, Any]:
        """The numbers of a check's newest verdict; none before the first."""
        rows = self.lake.rows(
            CHECK_RESULTS,
            'line = ? and "check" = ? qualify row_number() over (order by evaluated_at_utc desc) = 1',
            [line, check],
        )
        return dict(json.loads(rows[0]["numbers"])) if rows else {}
