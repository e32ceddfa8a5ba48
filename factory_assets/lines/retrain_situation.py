"""Reads what a decision on retraining rests on, beside checks and ledger: models, costs, traffic, what is due."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Protocol

from factory_assets.contracts.budget import RetrainBudgetSpec
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.paybacks import RetrainResult
from factory_assets.contracts.retraining import Capacity, FailedCheck, Price, RetrainHistory
from factory_assets.core.retraining.budget import estimate_price, evaluate_capacity
from factory_assets.core.retraining.due import evaluate_new_rows, evaluate_schedule
from factory_assets.core.retraining.payments import PaymentRecord, evaluate_payments
from factory_assets.lines.stores import LineStores
from factory_assets.storage.sql import quote_identifier
from factory_assets.storage.tables.costs import Costs
from factory_assets.storage.tables.model_versions import PROMOTIONS

# The newest instant of a cron expression that is not after a moment.
NewestInstant = Callable[[str, datetime], datetime]
Clocks = tuple[datetime, datetime]
TRAFFIC_DAYS = 7
_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)

_SERVING = """
    select segment, max_by(version, sequence) as version
    from promotions
    where promoted and line = ?
    group by segment
"""


def read_serving(stores: LineStores) -> dict[str, int]:
    """The serving version of each segment; empty while none serves."""
    pinned = stores.lake.find(PROMOTIONS.name)
    if pinned is None:
        return {}
    found = stores.lake.query(_SERVING, [stores.spec.name], promotions=pinned)
    return dict(zip(found.column("segment").to_pylist(), found.column("version").to_pylist(), strict=True))


def read_capacity(stores: LineStores, budget: RetrainBudgetSpec, history: RetrainHistory, wall_now: datetime) -> Capacity:
    """What the factory has left; costs are read only when there is a budget of CPU time."""
    if budget.cpu_minutes_a_day is None:
        return evaluate_capacity(budget, history, 0.0, {}, wall_now)
    costs = Costs(stores.lake)
    midnight = wall_now.replace(hour=0, minute=0, second=0, microsecond=0)
    return evaluate_capacity(budget, history, costs.spent_cpu_seconds(midnight), costs.spent_by_request(), wall_now)


def read_price(stores: LineStores, budget: RetrainBudgetSpec, segments: int) -> Price:
    """What a retrain of the line is expected to take."""
    if budget.cpu_minutes_a_day is None:
        return Price()
    return estimate_price(Costs(stores.lake).past_retrains(stores.spec.name), segments)


def read_payments(stores: LineStores) -> dict[str, PaymentRecord]:
    """How retrains of each segment have paid: judged promotions, and retrains that left the champion as it was."""
    line = stores.spec.name
    told = {"paid": True, "did_not_pay": False}
    judged = [
        RetrainResult(row["segment"], row["promoted_at_utc"], told.get(row["verdict"]))
        for row in stores.paybacks.of_line(line)
    ]
    kept = [RetrainResult(segment, at, paid=False) for segment, at in stores.ledger.kept_champions(line)]
    return evaluate_payments(stores.spec.retrain.payback, [*judged, *kept])


def read_rows_a_day(stores: LineStores, now: datetime) -> dict[str, float]:
    """Rows that each serving model has scored a day, of the newest week; a model that scored none is absent."""
    pinned = stores.lake.find(stores.predictions.name)
    if pinned is None:
        return {}
    as_of = quote_identifier(stores.spec.as_of)
    sql = (
        f"select model_segment as segment, count(*) / {TRAFFIC_DAYS}.0 as rows_a_day from t "
        f"where {as_of} >= ? and {as_of} < ? and model_segment is not null group by model_segment"
    )
    found = stores.lake.query(sql, [now - timedelta(days=TRAFFIC_DAYS), now], t=pinned)
    return dict(zip(found.column("segment").to_pylist(), found.column("rows_a_day").to_pylist(), strict=True))


def add_effects(stores: LineStores, failed: Sequence[FailedCheck]) -> list[FailedCheck]:
    """The failures with their effects by segment: how many times its limit each is, so that all kinds can be compared.

    Drift by segment comes from `ops/drift`, losses of quality and ages from `ops/check_results`; a check that named effects
    itself keeps them, and what is due by itself is at its limit, which is 1.
    """
    return [
        replace(check, effects=check.effects or _read_effects(stores, check)) if check.evaluation_id else check
        for check in failed
    ]


def _read_effects(stores: LineStores, check: FailedCheck) -> dict[str, float]:
    if check.check in _LIMITS:
        numbers = stores.checks.newest_numbers(stores.spec.name, check.check)
        value, limit = _LIMITS[check.check](numbers, stores.spec)
        if value is None or not limit:
            return {}
        of_segments = numbers.get("loss_of_segments", {})
        return {segment: of_segments.get(segment, value) / limit for segment in check.segments}
    return stores.drift_results.newest_severity(stores.spec.name, check.check)


_LIMITS: Mapping[str, Callable[[Mapping[str, Any], ModelLineSpec], tuple[float | None, float | None]]] = {
    "model_age": lambda numbers, _: (numbers.get("lag_hours"), numbers.get("limit_hours")),
    "quality": lambda numbers, spec: (numbers.get("loss"), spec.quality.max_loss),
    "estimated_quality": lambda numbers, spec: (numbers.get("loss"), spec.quality.max_expected_loss),
}


class TrainedModelTimes(Protocol):
    """When a model was trained, and until when labels were known to it."""

    @property
    def trained_at_utc(self) -> datetime:
        """By the factory clock."""

    @property
    def holdout_until_utc(self) -> datetime:
        """The end of its holdout."""


def read_due(
    stores: LineStores, history: RetrainHistory, serving: Mapping[str, int], schedule: NewestInstant, clocks: Clocks
) -> list[FailedCheck]:
    """Triggers of the policy that are due by themselves; nothing is read for those that it does not name.

    A line without a model is not due: its `model_age` check fails, or a person trains it first.
    """
    policy, line = stores.spec.retrain, stores.spec.name
    wanted = {"new_rows", "schedule"} & set(policy.named_triggers)
    champion = stores.versions.champion(line) if wanted and serving else None
    if champion is None:
        return []
    answers = [answer.at_utc for (answered, _), answer in history.resolved.items() if answered == line]
    return find_due(stores.spec, champion, answers, serving, partial(count_labels, stores), schedule, clocks)


def find_due(
    spec: ModelLineSpec,
    champion: TrainedModelTimes,
    answers: Sequence[datetime],
    serving: Mapping[str, int],
    count: Callable[[datetime, datetime], int],
    schedule: NewestInstant,
    clocks: Clocks,
) -> list[FailedCheck]:
    """The triggers that are due by themselves for a champion, wherever its labels are counted.

    Args:
        spec: the line.
        champion: of all rows.
        answers: when retrains of the line were answered.
        serving: version by segment.
        count: how many labels became known after the first instant and by the second.
        schedule: the newest instant of a schedule by a moment.
        clocks: the factory's and the wall's.
    """
    policy, (now, wall_now) = spec.retrain, clocks
    found = []
    if policy.new_rows is not None:
        since = max([champion.holdout_until_utc, *answers])
        # All that could be learnt from is counted for a share of it alone.
        learnable = count(learns_from(spec, since), since) if isinstance(policy.new_rows, str) else 0
        found.append(evaluate_new_rows(policy, count(since, now), learnable, since, serving, wall_now))
    if policy.schedule is not None:
        since = max([champion.trained_at_utc, *answers])
        found.append(evaluate_schedule(schedule(policy.schedule, now), since, serving, wall_now))
    return [check for check in found if check is not None]


def learns_from(spec: ModelLineSpec, now: datetime) -> datetime:
    """Since when a label counts for a training at `now`: the line's window and holdout back, or always."""
    window = (spec.retrain.window if spec.retrain.strategy == "sliding_window" else None) or spec.validation.window
    return _ALWAYS if window is None else now - window - spec.validation.holdout


def count_labels(stores: LineStores, since: datetime, now: datetime) -> int:
    """Labelled rows whose label became known after `since` and by `now`."""
    label = stores.spec.label
    pinned = stores.lake.find(f"marts/{label.model}")
    if pinned is None:
        return 0
    known_at = quote_identifier(label.known_at)
    sql = f"select count({quote_identifier(label.column)}) as labels from t where {known_at} > ? and {known_at} <= ?"
    return int(stores.lake.query(sql, [since, now], t=pinned).column("labels")[0].as_py())


def apply_strategy(spec: ModelLineSpec, strategy: str | None) -> ModelLineSpec:
    """The spec that a retrain trains by: with `sliding_window` it learns from `retrain.window` only."""
    if strategy != "sliding_window" or spec.retrain.window is None:
        return spec
    return spec.model_copy(update={"validation": spec.validation.model_copy(update={"window": spec.retrain.window})})
