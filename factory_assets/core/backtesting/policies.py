"""Retrain policies by the name they are tried under: the line's own, and those that it is compared with."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from factory_assets.contracts.retrain_policy import RetrainSpec

OWN = "own"
_TRIGGERS: dict[str, dict[str, Any]] = {
    "never": {"triggers": []},
    "weekly": {"triggers": ["schedule"], "schedule": "0 0 * * 1"},
    "monthly": {"triggers": ["schedule"], "schedule": "0 0 1 * *"},
    "daily": {"triggers": ["schedule"], "schedule": "0 0 * * *"},
    "on_drift": {"triggers": ["feature_drift", "prediction_drift"]},
    "on_quality": {"triggers": ["quality"]},
}
POLICIES = (*_TRIGGERS, OWN)
DEFAULT_POLICIES = tuple(name for name in POLICIES if name != "daily")
# A day of the calendar may have 23 hours: a schedule must not be held up by a cooldown of a day.
_BETWEEN_SCHEDULED = "1h"
_LIMITS = ("confirm", "cooldown", "max_attempts", "backoff", "timeout", "strategy", "window", "payback")


class UnknownPolicyError(ValueError):
    """A name that is no policy."""


def check_policies(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each once, in their order.

    Raises:
        UnknownPolicyError: with what was probably meant.
    """
    for name in names:
        if name not in POLICIES:
            near = get_close_matches(name.lower().replace("-", "_"), POLICIES, n=2)
            meant = f": did you mean {' or '.join(near)}?" if near else ""
            raise UnknownPolicyError(f"{name!r} is not a policy{meant} Choose of {', '.join(POLICIES)}.")
    return tuple(dict.fromkeys(names))


def build_policy(name: str, own: RetrainSpec) -> RetrainSpec:
    """The policy of that name for a line whose own is `own`.

    The line's limits (cooldown, hysteresis, backoff) hold for `on_drift` and `on_quality` as well; a schedule has none. All
    but `own` retrain, whatever action the line declares, since a policy that only alerts costs nothing and mends nothing.

    >>> build_policy("weekly", RetrainSpec()).schedule
    '0 0 * * 1'

    Raises:
        UnknownPolicyError: for any other name.
    """
    (checked,) = check_policies([name])
    if checked == OWN:
        return own
    limits = {key: value for key, value in own.model_dump(mode="json").items() if key in _LIMITS}
    if own.strategy != "sliding_window":
        limits.pop("window")
    chosen = _TRIGGERS[checked]
    if "schedule" in chosen:
        limits |= {"cooldown": _BETWEEN_SCHEDULED, "confirm": 1}
    return RetrainSpec.model_validate({**limits, **chosen})
