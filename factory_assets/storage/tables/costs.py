"""The one writer of `ops/costs`: what each piece of work took, by segment."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from factory_assets.contracts.costs import Cost, Usage, Work
from factory_assets.storage.delta.lake import UTC_TIMESTAMP, Lake, TableSpec

COSTS = TableSpec(
    name="ops/costs",
    schema=pa.schema(
        [
            ("run_id", pa.string()),
            ("step", pa.string()),
            ("segment", pa.string()),
            ("kind", pa.string()),
            ("asset", pa.string()),
            ("line", pa.string()),
            ("run_key", pa.string()),
            ("cpu_seconds", pa.float64()),
            ("overhead_cpu_seconds", pa.float64()),
            ("wall_seconds", pa.float64()),
            ("peak_memory_bytes", pa.int64()),
            ("bytes_read", pa.int64()),
            ("bytes_written", pa.int64()),
            ("price", pa.float64()),
            ("ended_at_utc", UTC_TIMESTAMP),
        ]
    ),
    keys=("run_id", "step", "segment", "ended_at_utc"),
)

_SPENT = """
    select coalesce(sum(cpu_seconds + overhead_cpu_seconds), 0.0) as cpu_seconds
    from costs where ended_at_utc >= ? and (run_key <> '' or kind in ('training_set', 'models'))
"""
_SPENT_BY_REQUEST = """
    select run_key, sum(cpu_seconds + overhead_cpu_seconds) as cpu_seconds from costs where run_key <> '' group by all
"""
_PAST_RETRAINS = """
    with runs as (
        select
            run_id,
            sum(cpu_seconds + overhead_cpu_seconds) as cpu_seconds,
            count(distinct segment) filter (kind = 'models') as segments,
            max(ended_at_utc) as ended_at_utc
        from costs
        where line = ? and (run_key <> '' or kind = 'models')
        group by run_id
        having segments > 0
    )
    select segments, cpu_seconds from runs order by ended_at_utc desc limit ?
"""


@dataclass(frozen=True)
class Costs:
    """Costs only grow; each piece of work is written when it ends, whether it went well or not."""

    lake: Lake

    def record(self, costs: Sequence[Cost]) -> None:
        """Appends the costs of one piece of work."""
        rows = [_to_row(cost) for cost in costs]
        self.lake.append(COSTS, pa.Table.from_pylist(rows, schema=COSTS.schema))

    def spent_cpu_seconds(self, since: datetime) -> float:
        """CPU seconds of retrains that ended since then, those that were started by hand included."""
        pinned = self.lake.find(COSTS.name)
        if pinned is None:
            return 0.0
        return float(self.lake.query(_SPENT, [since], costs=pinned).column("cpu_seconds")[0].as_py())

    def spent_by_request(self) -> dict[str, float]:
        """CPU seconds of each retrain request so far, by run key."""
        pinned = self.lake.find(COSTS.name)
        if pinned is None:
            return {}
        spent = self.lake.query(_SPENT_BY_REQUEST, costs=pinned)
        return dict(zip(spent.column("run_key").to_pylist(), spent.column("cpu_seconds").to_pylist(), strict=True))

    def past_retrains(self, line: str, limit: int = 5) -> list[tuple[int, float]]:
        """Segments and CPU seconds of the newest retrains of a line."""
        pinned = self.lake.find(COSTS.name)
        if pinned is None:
            return []
        found = self.lake.query(_PAST_RETRAINS, [line, limit], costs=pinned).to_pylist()
        return [(row["segments"], row["cpu_seconds"]) for row in found]

    def rows(self, where: str = "true", parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Rows of the table, oldest piece of work first."""
        found = self.lake.rows(COSTS, where, parameters)
        return sorted(found, key=lambda row: row["ended_at_utc"])


def _to_row(cost: Cost) -> dict[str, Any]:
    usage: Usage = cost.usage
    work: Work = cost.work
    return {
        **asdict(work),
        **asdict(usage),
        "segment": cost.segment,
        "price": cost.price,
        "ended_at_utc": cost.ended_at_utc,
    }
