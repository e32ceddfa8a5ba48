"""Retrain policies by the name they are tried under: the line's own, and those that it is compared with."""

from collections.abc import Sequence
from typing import Any

from factory_assets.contracts.names import parse_duration, suggest
from factory_assets.contracts.retrain_policy import RetrainSpec

OWN = "own"
_TRIGGERS: dict[str, dict[str, Any]] = {
    "never": {"triggers": []},
    "weekly": {"triggers": ["schedule"], "schedule": "0 0 * * 1"},
    "monthly": {"triggers": ["schedule"], "schedule": "0 0 1 * *"},
    "daily": {"triggers": ["schedule"], "schedule": "0 0 * * *"},
    "on_drift": {"triggers": ["feature_drift", "prediction_drift"]},
    "on_quality": {"triggers": ["quality"]},
    # To be as good as under `daily` for less: each retrain counts, however little it gains by itself.
    "keep_up": {
        "triggers": ["feature_drift", "prediction_drift", "new_rows"],
        "new_rows": "1%",
        "cooldown": "1d",
        "confirm": 1,
    },
}
_COSTLY = ("daily", "keep_up")
# With a pace of their own: the line's cooldown says nothing about them, nor do retrains that did not pay.
_PACED = tuple(name for name, keys in _TRIGGERS.items() if keys.keys() & {"schedule", "cooldown"})
POLICIES = (*_TRIGGERS, OWN)
DEFAULT_POLICIES = tuple(name for name in POLICIES if name not in _COSTLY)
# A day of the calendar may have 23 hours: a schedule must not be held up by a cooldown of a day.
_BETWEEN_SCHEDULED = "1h"
_WITH_COOLDOWN = tuple(name for name in POLICIES if name not in ("never", *_PACED))
_LIMITS = ("confirm", "cooldown", "max_attempts", "backoff", "timeout", "strategy", "window", "payback")


class UnknownPolicyError(ValueError):
    """A name that is no policy."""


def check_policies(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each once, in their order.

    Raises:
        UnknownPolicyError: with what was probably meant.
    """
    for name in names:
        plain, at, cooldown = name.partition("@")
        if plain not in POLICIES:
            meant = suggest(plain.lower().replace("-", "_"), POLICIES)
            raise UnknownPolicyError(f"{name!r} is not a policy: {meant}")
        if at:
            _check_cooldown(plain, cooldown)
    return tuple(dict.fromkeys(names))


def _check_cooldown(plain: str, cooldown: str) -> None:
    if plain not in _WITH_COOLDOWN:
        raise UnknownPolicyError(f"{plain!r} has no cooldown: write {', '.join(f'{name}@3d' for name in _WITH_COOLDOWN)}")
    try:
        parse_duration(cooldown)
    except ValueError as error:
        raise UnknownPolicyError(f"{plain}@{cooldown}: {error}") from error


def build_policy(name: str, own: RetrainSpec) -> RetrainSpec:
    """The policy of that name for a line whose own is `own`; with `@` and a span of time behind it, with that cooldown.

    The line's limits (cooldown, hysteresis, backoff) hold for `on_drift` and `on_quality` as well; a schedule has none, and
    `keep_up` its own. All but `own` retrain, whatever action the line declares, since a policy that only alerts costs
    nothing and mends nothing.

    >>> build_policy("weekly", RetrainSpec()).schedule
    '0 0 * * 1'
    >>> build_policy("on_drift@3d", RetrainSpec()).cooldown.days
    3

    Raises:
        UnknownPolicyError: for any other name.
    """
    (named,) = check_policies([name])
    checked, _, cooldown = named.partition("@")
    if cooldown:
        # Judged afresh, as if the line had declared it.
        own = RetrainSpec.model_validate(own.model_dump(mode="json") | {"cooldown": cooldown})
    if checked == OWN:
        return own
    limits = {key: value for key, value in own.model_dump(mode="json").items() if key in _LIMITS}
    if own.strategy != "sliding_window":
        limits.pop("window")
    chosen = _TRIGGERS[checked]
    if "schedule" in chosen:
        limits |= {"cooldown": _BETWEEN_SCHEDULED, "confirm": 1}
    if checked in _PACED:
        limits |= {"payback": limits["payback"] | {"slower_by": 1.0}}
    return RetrainSpec.model_validate({**limits, **chosen})
