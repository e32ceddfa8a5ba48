"""Is one policy better than another? The line's metric on the same rows, and an interval on the difference."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from factory_assets.contracts.model_line import METRICS
from factory_assets.core.metrics import evaluate_metric
from factory_assets.core.monitoring.quality import weighted_metric

_EPOCH = date(1970, 1, 1)
_DRAWS = 400
# Delays and weather last for days, and weekdays differ: a week is the least that may be drawn as a whole.
_BLOCK_DAYS = 7
# So many weightings of all rows are held at once.
_AT_ONCE = 8


@dataclass(frozen=True)
class JudgedRows:
    """The rows that policies are compared on: labels and days (number of the local day), both of shape (n,)."""

    labels: np.ndarray
    days: np.ndarray


@dataclass(frozen=True)
class Gain:
    """How much better: the difference of the metric, positive where it is better, and its 95% interval."""

    gain: float
    low: float
    high: float


def evaluate_weeks(metric: str, rows: JudgedRows, scores: np.ndarray) -> tuple[tuple[date, float], ...]:
    """The metric of each week of seven days from the first day on; a week of one class alone has none."""
    if not len(rows.days):
        return ()
    first = int(rows.days.min())
    week = (rows.days - first) // 7
    found = []
    for number in np.unique(week):
        mine = week == number
        value = evaluate_metric(metric, rows.labels[mine], scores[mine])
        if np.isfinite(value):
            found.append((_EPOCH + timedelta(days=first + 7 * int(number)), value))
    return tuple(found)


def evaluate_gains(
    metric: str, rows: JudgedRows, scores: Mapping[str, np.ndarray], against: str, seed: int = 0
) -> dict[str, Gain]:
    """Every policy but `against` compared with it, by resampling blocks of days.

    The same blocks are drawn for all (a circular block bootstrap; Politis and Romano, 1992), so that what the days have in
    common cancels. Equal scores give a gain of 0 with an interval of 0.

    Args:
        metric: the line's.
        rows: the rows.
        scores: by policy, shape (n,), finite.
        against: the policy that the others are compared with.
        seed: of the draws.
    """
    sign = 1.0 if METRICS[metric][1] else -1.0
    drawn = _draw_days(rows.days, seed)
    values = {name: _metric_of_draws(metric, rows, found, drawn) for name, found in _distinct(scores).items()}
    names = _same_as(scores)
    gains = {}
    for name in scores:
        if name != against:
            difference = sign * (values[names[name]] - values[names[against]])
            low, high = np.nanpercentile(difference[1:], [2.5, 97.5])
            # Adding nought takes the sign from a nought.
            gains[name] = Gain(float(difference[0]) + 0.0, float(low) + 0.0, float(high) + 0.0)
    return gains


def _same_as(scores: Mapping[str, np.ndarray]) -> dict[str, str]:
    """By name, the first name with the very same scores: a policy that never acts is as good as another that does not."""
    found: dict[str, str] = {}
    for name, values in scores.items():
        found[name] = next((other for other in found if np.array_equal(scores[other], values)), name)
    return found


def _distinct(scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    names = _same_as(scores)
    return {name: values for name, values in scores.items() if names[name] == name}


def _draw_days(days: np.ndarray, seed: int) -> np.ndarray:
    """How often each row's day is drawn: all once first, then blocks of days; shape (draws + 1, distinct days)."""
    count = len(np.unique(days))
    length = min(_BLOCK_DAYS, max(count, 1))
    blocks = -(-count // length)
    starts = np.random.default_rng(seed).integers(0, max(count, 1), size=(_DRAWS, blocks))
    drawn = ((starts[:, :, None] + np.arange(length)) % max(count, 1)).reshape(_DRAWS, -1)[:, :count]
    weights = np.ones((_DRAWS + 1, count))
    for draw in range(_DRAWS):
        weights[draw + 1] = np.bincount(drawn[draw], minlength=count)
    return weights


def _metric_of_draws(metric: str, rows: JudgedRows, scores: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    _, place = np.unique(rows.days, return_inverse=True)
    # In the order of their scores, so that each sort of the metric finds them sorted.
    order = np.argsort(-scores, kind="stable")
    labels, ordered, place = rows.labels[order], scores[order], place[order]
    parts = [
        weighted_metric(metric, labels, ordered, drawn[start : start + _AT_ONCE][:, place])
        for start in range(0, len(drawn), _AT_ONCE)
    ]
    return np.concatenate(parts)
