"""The one writer of `ops/drift`: what each day's verdict said of every segment and feature, and the memory of hysteresis."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from factory_assets.contracts.reports import DriftReport, SegmentDay
from factory_assets.core.drift.verdicts import FeatureTable
from factory_assets.storage.delta.lake import UTC_TIMESTAMP, Lake, TableSpec
from factory_assets.storage.sql import equals_any

DRIFT_RESULTS = TableSpec(
    name="ops/drift",
    schema=pa.schema(
        [
            ("line", pa.string()),
            ("check", pa.string()),
            ("segment", pa.string()),
            ("champion_version", pa.int64()),
            ("feature", pa.string()),
            ("window_start_utc", UTC_TIMESTAMP),
            ("window_end_utc", UTC_TIMESTAMP),
            ("measure", pa.string()),
            ("effect", pa.float64()),
            ("threshold", pa.float64()),
            ("p_value", pa.float64()),
            ("p_adjusted", pa.float64()),
            ("exceeded", pa.bool_()),
            ("segment_judged", pa.bool_()),
            ("segment_exceeded", pa.bool_()),
            ("segment_drifted", pa.bool_()),
            ("false_alarms_per_month", pa.float64()),
            ("reference_rows", pa.int64()),
            ("current_rows", pa.int64()),
        ]
    ),
    keys=("line", "check", "segment", "feature", "window_end_utc"),
    partition_by=("line",),
    sort_by=("check", "window_end_utc", "segment", "feature"),
)


@dataclass(frozen=True)
class DriftResults:
    """One row a line, check, segment, feature and day: judging a day again replaces its rows."""

    lake: Lake

    def record(
        self,
        line: str,
        check: str,
        window: tuple[datetime, datetime],
        versions: Mapping[str, int],
        report: DriftReport,
        table: FeatureTable,
    ) -> None:
        """Writes the verdict on one window. `versions` are the champions that the segments were compared with."""
        verdicts = {segment.segment: segment for segment in report.segments}
        of = [verdicts[str(segment)] for segment in table.segments]
        count = len(of)
        columns = {
            "line": [line] * count,
            "check": [check] * count,
            "segment": [v.segment for v in of],
            "champion_version": [versions[v.segment] for v in of],
            "feature": table.features,
            "window_start_utc": [window[0]] * count,
            "window_end_utc": [window[1]] * count,
            "measure": table.measures,
            "effect": table.effects,
            "threshold": table.thresholds,
            "p_value": table.p_values,
            "p_adjusted": table.p_adjusted,
            "exceeded": table.exceeded.astype(bool),
            "segment_judged": [v.judged for v in of],
            "segment_exceeded": [v.exceeded for v in of],
            "segment_drifted": [v.drifted for v in of],
            "false_alarms_per_month": [v.false_alarms_per_month for v in of],
            "reference_rows": table.reference_rows.astype("int64"),
            "current_rows": table.current_rows.astype("int64"),
        }
        schema = DRIFT_RESULTS.schema
        rows = pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)
        keys = (("line", line), ("check", check), ("window_end_utc", window[1]))
        self.lake.replace(DRIFT_RESULTS, rows, " and ".join(equals_any(name, [value]) for name, value in keys))

    def count_exceeded(
        self, line: str, check: str, before: datetime, windows: int, versions: Mapping[str, int]
    ) -> dict[str, int]:
        """In how many of its last `windows` judged days before `before` a segment exceeded, under its present champion."""
        results = self.lake.find(DRIFT_RESULTS.name)
        if results is None or windows < 1:
            return {}
        champions = pa.table(
            {"segment": pa.array(list(versions), pa.string()), "champion_version": pa.array(versions.values(), pa.int64())}
        )
        found = self.lake.query(
            """
            with days as (
                select distinct segment, champion_version, window_end_utc, segment_exceeded
                from results join champions using (segment, champion_version)
                where line = ? and "check" = ? and window_end_utc < ? and segment_judged
                qualify dense_rank() over (partition by segment order by window_end_utc desc) <= ?
            )
            select segment, count(*) filter (segment_exceeded) as exceeded from days group by segment""",
            [line, check, before, windows],
            results=results,
            champions=champions,
        )
        return dict(zip(found["segment"].to_pylist(), found["exceeded"].to_pylist(), strict=True))

    def segment_days(self, line: str, check: str, last: datetime, days: int, most: int) -> list[SegmentDay]:
        """The `days` judged up to `last` of the `most` segments that are worst on it, worst first."""
        results = self.lake.find(DRIFT_RESULTS.name)
        if results is None:
            return []
        found = self.lake.query(
            """
            with cells as (
                select segment, window_end_utc, max(effect / threshold) as severity, bool_or(segment_drifted) as drifted
                from results
                where line = ? and "check" = ? and window_end_utc > ? and window_end_utc <= ? and segment_judged
                group by all
            ), worst as (
                select
                    segment,
                    bool_or(drifted) filter (window_end_utc = ?) as drifts,
                    max(severity) filter (window_end_utc = ?) as newest
                from cells group by segment
                order by drifts desc nulls last, newest desc nulls last, segment limit ?
            )
            select cells.* from cells join worst using (segment)
            order by drifts desc nulls last, newest desc nulls last, segment, window_end_utc""",
            [line, check, last - timedelta(days=days), last, last, last, most],
            results=results,
        )
        return [
            SegmentDay(row["segment"], row["window_end_utc"].astimezone(UTC).date(), row["severity"], row["drifted"])
            for row in found.to_pylist()
        ]

    def newest_severity(self, line: str, check: str) -> dict[str, float]:
        """By segment that drifted in the newest judged window, its largest effect in thresholds."""
        results = self.lake.find(DRIFT_RESULTS.name)
        if results is None:
            return {}
        found = self.lake.query(
            """
            select segment, max(effect / threshold) as severity from results
            where line = ? and "check" = ? and segment_drifted and threshold > 0
                and window_end_utc = (select max(window_end_utc) from results where line = ? and "check" = ?)
            group by segment""",
            [line, check, line, check],
            results=results,
        )
        return dict(zip(found["segment"].to_pylist(), found["severity"].to_pylist(), strict=True))
