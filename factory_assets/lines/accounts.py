"""Sums over the factory's own records: how the retrain ledger stands, and what work has cost."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from factory_assets.lines.summary import read_sql
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.tables.costs import COSTS
from factory_assets.storage.tables.paybacks import PAYBACKS
from factory_assets.storage.tables.retrain_ledger import find_ledger

_STATES = """
    with newest as (
        from ledger qualify row_number() over (partition by cause order by sequence desc, step desc) = 1
    )
    select state, count(*) as causes from newest group by state order by state
"""
_UNSETTLED = """
    from ledger
    select line, segment, trigger, state, next_step, next_step_at_utc, attempts, expected_loss, reason, recorded_at_utc
    qualify row_number() over (partition by cause order by sequence desc, step desc) = 1
        and state not in ('promoted', 'kept_champion', 'superseded')
    order by expected_loss desc, recorded_at_utc
    limit ?
"""
_PAYBACKS = """
    select
        line,
        count(*) filter (verdict = 'paid') as paid,
        count(*) filter (verdict = 'did_not_pay') as did_not_pay,
        count(*) filter (verdict = 'undecided') as undecided,
        arg_max(reason, judged_at_utc) as newest
    from paybacks
    group by line
    order by line
"""
# From the verdict over the sensor's look and the start of the run to the answer, of the answered causes of a line. From the
# start on the run trains, records, and scores again; what lies between the look and the start is waiting and start-up.
_DELAYS = """
    with steps as (
        select
            line,
            cause,
            min(evaluated_at_utc) as judged,
            min(recorded_at_utc) filter (state = 'open') as seen,
            max(recorded_at_utc) filter (state = 'requested') as requested,
            max(recorded_at_utc) filter (state = 'running') as started,
            max(recorded_at_utc) filter (state in ('promoted', 'kept_champion')) as answered
        from ledger
        group by line, cause
        having answered is not null and judged is not null
    )
    select
        line,
        count(*) as causes,
        median(epoch(seen) - epoch(judged)) as judged_to_seen_seconds,
        median(epoch(requested) - epoch(seen)) as seen_to_requested_seconds,
        median(epoch(started) - epoch(requested)) as requested_to_started_seconds,
        median(epoch(answered) - epoch(started)) as started_to_answered_seconds,
        median(epoch(answered) - epoch(judged)) as judged_to_answered_seconds,
        median((epoch(answered) - epoch(seen)) / nullif(epoch(answered) - epoch(started), 0)) as times_the_training
    from steps
    group by line
    order by line
"""
_COSTS = """
    select
        line,
        kind,
        count(*) as rows,
        sum(cpu_seconds) as cpu_seconds,
        sum(overhead_cpu_seconds) as overhead_cpu_seconds,
        sum(wall_seconds) as wall_seconds,
        max(peak_memory_bytes) as peak_memory_bytes,
        sum(bytes_read)::bigint as bytes_read,
        sum(bytes_written)::bigint as bytes_written,
        sum(price) as price
    from costs
    where ended_at_utc >= ?
    group by line, kind
    order by line, kind
"""
_BY_SEGMENT = """
    select line, segment, sum(cpu_seconds + overhead_cpu_seconds) as cpu_seconds, sum(price) as price
    from costs
    where ended_at_utc >= ? and line <> ''
    group by line, segment
    order by price desc, cpu_seconds desc, line, segment
    limit ?
"""


@dataclass(frozen=True)
class LedgerStanding:
    """How the ledger stands: causes by state, what is unsettled (the greatest loss first), and how long answers take.

    `paybacks` are counts of judged promotions by line and verdict, with the newest judgement in words.
    """

    causes: dict[str, int]
    unsettled: list[dict[str, Any]]
    delays: list[dict[str, Any]]
    paybacks: list[dict[str, Any]]


def read_ledger_standing(lake: Lake, most: int = 100) -> LedgerStanding:
    """The standing by now; `most` unsettled causes are listed."""
    pinned = find_ledger(lake)
    if pinned is None:
        return LedgerStanding({}, [], [], [])
    judged = lake.find(PAYBACKS.name)
    states = lake.query(_STATES, ledger=pinned).to_pylist()
    return LedgerStanding(
        {row["state"]: row["causes"] for row in states},
        lake.query(_UNSETTLED, [most], ledger=pinned).to_pylist(),
        lake.query(_DELAYS, ledger=pinned).to_pylist(),
        lake.query(_PAYBACKS, paybacks=judged).to_pylist() if judged is not None else [],
    )


def sum_costs(lake: Lake, since: datetime) -> list[dict[str, Any]]:
    """Costs by line and kind of work since then; rows without a line are sources and dbt."""
    pinned = lake.find(COSTS.name)
    return [] if pinned is None else lake.query(_COSTS, [since], costs=pinned).to_pylist()


def sum_segment_costs(lake: Lake, since: datetime, most: int = 50) -> list[dict[str, Any]]:
    """Costs of the dearest segments since then; work on a line as a whole is under `all`."""
    pinned = lake.find(COSTS.name)
    return [] if pinned is None else lake.query(_BY_SEGMENT, [since, most], costs=pinned).to_pylist()


def sum_cause_costs(lake: Lake) -> list[dict[str, Any]]:
    """What each cause of a retrain has cost over all its attempts, the dearest first; they add up to what the runs took."""
    costs, ledger = lake.find(COSTS.name), find_ledger(lake)
    if costs is None or ledger is None:
        return []
    found: list[dict[str, Any]] = lake.query(read_sql("cost_by_cause"), costs=costs, retrain_ledger=ledger).to_pylist()
    return found
