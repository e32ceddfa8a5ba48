"""What is left of the day's budget, and what a retrain is expected to take."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from factory_assets.contracts.budget import RetrainBudgetSpec
from factory_assets.contracts.retraining import IN_FLIGHT, IN_VAIN, Capacity, Price, RetrainHistory

# A day's budget must hold though runs differ: what is set aside is this much more than the dearest of the past ones.
_MARGIN = 1.25


def evaluate_capacity(
    budget: RetrainBudgetSpec,
    history: RetrainHistory,
    spent_today: float,
    spent_by_request: Mapping[str, float],
    wall_now: datetime,
) -> Capacity:
    """What may be started now.

    A request that is in flight counts with what was set aside for it, or with what it has used already when that is more.
    So does one that died without telling what it used, on the day it died.

    Args:
        budget: as declared.
        history: the ledger.
        spent_today: CPU seconds that retrains have recorded since midnight, UTC.
        spent_by_request: CPU seconds recorded by run key, at any time.
        wall_now: wall time.
    """
    midnight = wall_now.replace(hour=0, minute=0, second=0, microsecond=0)
    if budget.cpu_minutes_a_day is None:
        return Capacity(budget.runs_at_once, budget.segments_a_run)
    a_day = budget.cpu_minutes_a_day * 60
    reserved: dict[str, float] = {}
    for entry in history.unsettled.values():
        silent = entry.state in IN_VAIN and entry.run_key not in spent_by_request and entry.recorded_at_utc >= midnight
        if entry.state in IN_FLIGHT or silent:
            reserved[entry.run_key] = reserved.get(entry.run_key, 0.0) + entry.reserved_cpu_seconds
    promised = sum(max(0.0, seconds - spent_by_request.get(run_key, 0.0)) for run_key, seconds in reserved.items())
    left = a_day - spent_today - promised
    return Capacity(budget.runs_at_once, budget.segments_a_run, a_day, left, midnight + timedelta(days=1))


def estimate_price(past: Sequence[tuple[int, float]], segments: int) -> Price:
    """What a retrain is expected to take, from past ones of the line.

    For a line of one segment, the dearest of them with a margin. For a fleet, half of the cheapest run counts as the run's
    own, and the rest is by segment: a line through two points would need runs of different sizes, which few lines have.

    Args:
        past: segments and CPU seconds of the newest retrains; without any, guesses that a first run corrects.
        segments: how many the line has.
    """
    if not past:
        return Price()
    if segments <= 1:
        return Price(0.0, _MARGIN * max(seconds for _, seconds in past))
    fixed = min(seconds for _, seconds in past) / 2
    by_segment = [(seconds - fixed) / max(count, 1) for count, seconds in past]
    return Price(_MARGIN * fixed, _MARGIN * max(by_segment))
