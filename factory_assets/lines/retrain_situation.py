"""Reads what a decision on retraining rests on, beside checks and ledger: models, costs, traffic, what is due."""

from datetime import datetime

from factory_assets.contracts.budget import RetrainBudgetSpec
from factory_assets.contracts.retraining import Capacity, Price, RetrainHistory
from factory_assets.core.retraining.budget import estimate_price, evaluate_capacity
from factory_assets.lines.stores import LineStores
from factory_assets.storage.costs import Costs
from factory_assets.storage.model_versions import PROMOTIONS

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
