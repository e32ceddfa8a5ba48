"""From p-values to alarms: at most so many false ones a month, whatever the number of segments, features and days.

A line promises a number of false alarms a month, N. Each day's verdict on each of its S judged segments may use up its
part of it: a segment exceeds when its p-value is at most N / (30 S c), c being the checks that share the promise. By
linearity the expected number of false exceedances in 30 days is then at most N, whatever hangs together with whatever
(features, segments, overlapping windows); hysteresis only takes some away. Rates of false *discoveries* (Benjamini and
Hochberg, LORD, ADDIS) promise a share of the alarms instead, and with a thousand true alarms that share is many retrains;
decision 0026 compares them on the same days.
"""

from collections.abc import Mapping

import numpy as np
from scipy import stats

DAYS_OF_A_MONTH = 30
# Of the quadrature; at correlations below 0.99 the error is below 1e-9.
_NODES = 48


def adjust_within_groups(p_values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Benjamini and Hochberg's adjustment (1995) of the p-values of each group by itself, shape (n,) both.

    The least adjusted p-value of a group is Simes' test (1986, Biometrika 73) that none of its features changed.
    """
    order = np.lexsort((p_values, groups))
    sorted_groups, sorted_p = groups[order], p_values[order]
    starts = np.flatnonzero(np.r_[True, sorted_groups[1:] != sorted_groups[:-1]]) if len(order) else np.array([], np.int64)
    sizes = np.diff(np.r_[starts, len(order)])
    rank = np.arange(len(order)) - np.repeat(starts, sizes) + 1
    raw = np.minimum(sorted_p * np.repeat(sizes, sizes) / rank, 1.0)
    # The running minimum from the largest p-value down, restarted at each group by a shift that keeps groups apart.
    shift = np.repeat(np.arange(len(sizes), 0, -1), sizes) * 2.0
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum.accumulate((raw - shift)[::-1])[::-1] + shift
    return np.clip(adjusted, sorted_p.min(initial=0.0), 1.0)


def false_alarms_per_month(p_values: np.ndarray, checks: int) -> np.ndarray:
    """How many exceedances a month p-values so small are expected to give on unchanged data, over all segments."""
    return p_values * len(p_values) * DAYS_OF_A_MONTH * checks


def chance_of_a_start(p_value: float, days: int) -> float:
    """The chance that a day's window of so many days shows what has this one-sided p-value, and yesterday's did not.

    Verdicts on windows that overlap are one alarm as long as they go on, so that a promise of alarms may be spent on their
    starts. Both windows' errors are taken as normal, and their correlation as the share of the days that they have in
    common; a window that grows, or a reference that is the same every day, holds together more and starts fewer.

    >>> round(chance_of_a_start(0.02, 1), 4), round(chance_of_a_start(0.02, 14), 4)
    (0.0196, 0.0073)
    """
    if p_value <= 0 or days <= 1:
        return p_value * (1 - p_value)
    return p_value - _both_above(float(stats.norm.isf(p_value)), 1 - 1 / days)


def _both_above(z: float, correlation: float) -> float:
    """The chance that two standard normals are both above z: 1 / (2 pi) of the integral that Drezner and Wesolowsky give."""
    angles, weights = np.polynomial.legendre.leggauss(_NODES)
    top = np.arcsin(correlation)
    sines = np.sin((angles + 1) * top / 2)
    below = stats.norm.sf(z) ** 2
    return float(below + top / 2 * np.sum(weights * np.exp(-(z**2) / (1 + sines))) / (2 * np.pi))


def confirm(exceeded: Mapping[str, bool], history: Mapping[str, int], hits: int) -> dict[str, tuple[bool, int]]:
    """Hysteresis: a segment drifted when it exceeds now and in enough of the windows before.

    Args:
        exceeded: of each segment, whether the newest window exceeds.
        history: of each segment, in how many of the windows before that count it exceeded.
        hits: windows that have to exceed, the newest among them.

    Returns:
        Of each segment, whether it drifted, and in how many windows it exceeded.
    """
    counted = {segment: int(now) + history.get(segment, 0) for segment, now in exceeded.items()}
    return {segment: (now and counted[segment] >= hits, counted[segment]) for segment, now in exceeded.items()}
