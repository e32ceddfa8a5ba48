"""When events happened: on another day than their file, or at hours that are moved."""

import math
from collections.abc import Sequence

from factory_assets.contracts.incidents import (
    BatchProfile,
    Finding,
)
from factory_assets.contracts.source import IncidentSpec
from factory_assets.core.incidents.history import History

_OUTSIDE = 0.04


def find_shifted_hours(batch: BatchProfile, history: History, spec: IncidentSpec) -> list[Finding]:
    """Events that lie on another day than their file, or whose hours are those of the history moved by some hours."""
    counted = sum(batch.hours)
    if not counted:
        return []
    known = max(day.outside / max(1, sum(day.hours)) for day in history.days)
    outside = batch.outside / counted
    shift, gain = _best_shift(batch.hours, [sum(hours) for hours in zip(*(day.hours for day in history.days), strict=True)])
    if outside > known + _OUTSIDE:
        found = f"{outside:.0%} of the events on another day" + (
            f", hours moved by {shift:+d}" if shift and gain > 0.1 else ""
        )
        return [Finding("timezone_shift", "", batch.outside, f"at most {known:.0%} of them", found)]
    if shift and gain > 0.25:
        return [Finding("timezone_shift", "", counted, "the usual hours of the day", f"those hours moved by {shift:+d}")]
    return []


def _best_shift(hours: Sequence[int], usual: Sequence[int]) -> tuple[int, float]:
    """The shift in hours, -12 to 11, under which a day looks most like the usual one, and how much better it looks so."""
    likeness = [_correlation([hours[(h + shift) % 24] for h in range(24)], usual) for shift in range(24)]
    best = max(range(24), key=lambda shift: likeness[shift])
    return (best if best < 12 else best - 24), likeness[best] - likeness[0]


def _correlation(a: Sequence[float], b: Sequence[float]) -> float:
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    var_a, var_b = sum((x - mean_a) ** 2 for x in a), sum((x - mean_b) ** 2 for x in b)
    # A feed that is as dense at night as at noon has no hours to recognise.
    if min(var_a, var_b) <= 0 or math.sqrt(var_b / len(b)) < 0.2 * mean_b:
        return 0.0
    return float(sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True)) / math.sqrt(var_a * var_b))
