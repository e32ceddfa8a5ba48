"""The least time between two retrains of a segment: as declared, longer while they do not pay, shorter while they do."""

from collections.abc import Iterable
from datetime import timedelta

from factory_assets.contracts.retrain_policy import RetrainSpec

# A loss that was measured on labels is a fact about today; that earlier retrains did not pay only foretells.
_MEASURED = "quality"


def evaluate_cooldown(policy: RetrainSpec, factor: float, triggers: Iterable[str]) -> timedelta:
    """The cooldown of a segment whose causes have these triggers.

    Never longer than the declared one and `payback.longest`, never shorter than the declared one and `payback.shortest`;
    a cause of measured quality waits for the declared one at most, however little the retrains before it paid.

    >>> evaluate_cooldown(RetrainSpec(cooldown="7d"), 4.0, ["feature_drift"]).days
    28
    >>> evaluate_cooldown(RetrainSpec(cooldown="7d"), 4.0, ["feature_drift", "quality"]).days
    7

    Args:
        policy: with the declared cooldown and its bounds.
        factor: by the record of the segment's retrains, how many times the declared cooldown.
        triggers: of the causes that wait.
    """
    declared, payback = policy.cooldown, policy.payback
    shortest = min(declared, payback.shortest or declared)
    longest = declared if _MEASURED in set(triggers) else max(declared, payback.longest)
    # Bounded as a factor first: a span of time has a greatest value.
    bounded = min(max(factor, shortest / declared), longest / declared)
    return declared * bounded
