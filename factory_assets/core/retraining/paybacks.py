"""Did a promotion pay? What it replaced, which later rows tell, and what they say."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import stats

from factory_assets.contracts.model_line import METRICS
from factory_assets.contracts.paybacks import Gain, PaybackVerdict, Replacement
from factory_assets.contracts.retrain_policy import PaybackSpec
from factory_assets.core.monitoring.quality import draw_days, weighted_metric
from factory_assets.core.segments import ancestors, segment_keys, segment_values

_DAYS_TO_TELL = 3  # Of fewer days an interval says nothing.


def find_replacements(decisions: Iterable[Mapping[str, Any]], levels: Sequence[Sequence[str]]) -> list[Replacement]:
    """Every promotion that replaced a model, oldest first: against what served the segment's rows just before.

    A segment's first model replaces its nearest serving parent's; a first model of all rows replaces nothing and is not
    among them, nor are segments of levels that the line has no more. Decisions of one commit take effect together.

    Args:
        decisions: rows of `ops/promotions` of one line, in any order.
        levels: key columns from the segments to the root.
    """
    depths = {len(columns) for columns in levels}
    champions: dict[str, int] = {}
    serving: dict[str, int] = {}
    found = []
    ordered = sorted(decisions, key=lambda row: (row["sequence"], row["segment"]))
    for _, commit in itertools.groupby(ordered, key=lambda row: row["sequence"]):
        before, rows = dict(serving), list(commit)
        for row in rows:
            segment = row["segment"]
            if row["promoted"]:
                champions[segment] = row["version"]
            serving.pop(segment, None)
            if row["serves"] and segment in champions:
                serving[segment] = champions[segment]
            if not row["promoted"] or not row["serves"] or len(segment_values(segment)) not in depths:
                continue
            served_by = next((key for key in (segment, *ancestors(segment, levels)) if key in before), None)
            if served_by is not None:
                found.append(Replacement(segment, row["version"], served_by, before[served_by], row["decided_at_utc"]))
    return found


def find_rows(
    rows: pa.Table, as_of: str, levels: Sequence[Sequence[str]], replacements: Sequence[Replacement]
) -> dict[Replacement, np.ndarray]:
    """The rows that came after each promotion in its segment, or in all that is below it, as positions in `rows`.

    Args:
        rows: with the columns of all levels, and as-of times in UTC.
        as_of: the column of the as-of times.
        levels: key columns from the segments to the root.
        replacements: of any levels.
    """
    moments = rows.column(as_of).cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
    of_level: dict[int, list[Replacement]] = {}
    for replacement in replacements:
        of_level.setdefault(len(segment_values(replacement.segment)), []).append(replacement)
    found = {}
    for columns in levels:
        wanted = of_level.get(len(columns), [])
        if not wanted:
            continue
        keys = segment_keys(rows, columns)
        codes = keys.indices.to_numpy(zero_copy_only=False)
        order = np.lexsort((moments, codes))
        starts = np.searchsorted(codes[order], np.arange(len(keys.dictionary) + 1))
        place = {key: number for number, key in enumerate(keys.dictionary.to_pylist())}
        for replacement in wanted:
            code = place.get(replacement.segment)
            own = order[starts[code] : starts[code + 1]] if code is not None else order[:0]
            since = int(replacement.promoted_at_utc.timestamp() * 1_000_000)
            found[replacement] = own[np.searchsorted(moments[own], since) :]
    return found


def is_due(spec: PaybackSpec, replacement: Replacement, rows: int, now: datetime) -> bool:
    """Whether a promotion is judged now: once, by how much time and how many rows there are and never by what they say.

    So no verdict is the best of many looks.
    """
    passed = now - replacement.promoted_at_utc
    return passed >= spec.window and (rows >= spec.min_rows or passed >= spec.patience)


def evaluate_gain(
    spec: PaybackSpec,
    metric: str,
    labels: np.ndarray,
    scores: np.ndarray,
    replaced_scores: np.ndarray,
    days: np.ndarray,
    skill: float,
    seed: int = 0,
) -> Gain:
    """The gain of the promoted model over the replaced one, with an interval that counts days and not rows.

    Both metrics come from the same rows, and each resampling of whole days gives both, so what a day does to both cancels
    out. The interval is that of Student's t with the resampled standard error and one degree less than there are days.

    Args:
        spec: the declared rules.
        metric: the line's metric.
        labels: shape (n,).
        scores: of the promoted model, shape (n,).
        replaced_scores: of the replaced model, shape (n,).
        days: the day of each row, any whole number a day.
        skill: what the replaced model was better than the dummy by, on its own holdout; NaN counts as none.
        seed: of the resampling.
    """
    sign = 1.0 if METRICS[metric][1] else -1.0
    count = len(np.unique(days))
    least = spec.min_gain * abs(skill) if math.isfinite(skill) else 0.0
    if count == 0:
        return _gain(metric, 0, 0, math.nan, math.nan, (math.nan,) * 3, least, "undecided")
    weights = draw_days(days, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        own = weighted_metric(metric, labels, scores, weights)
        replaced = weighted_metric(metric, labels, replaced_scores, weights)
    gains = sign * (own - replaced)
    drawn = gains[1:][np.isfinite(gains[1:])]
    gain, value, against = float(gains[0]), float(own[0]), float(replaced[0])
    # With too many draws of one class only, the rest is no fair sample of what could have come.
    if count < _DAYS_TO_TELL or not math.isfinite(gain) or len(drawn) < len(gains) / 2:
        return _gain(metric, len(labels), count, value, against, (gain, math.nan, math.nan), least, "undecided")
    error = float(drawn.std()) * math.sqrt(count / (count - 1))
    reach = float(stats.t.ppf((1 + spec.confidence) / 2, count - 1)) * error
    low, high = gain - reach, gain + reach
    verdict: PaybackVerdict = "undecided"
    if high < least or (high <= 0 and error == 0):
        verdict = "did_not_pay"
    elif low > 0:
        verdict = "paid"
    return _gain(metric, len(labels), count, value, against, (gain, low, high), least, verdict)


def leave_undecided(metric: str, rows: int, reason: str) -> Gain:
    """The judgement when one of the two models cannot be asked."""
    nan = math.nan
    return Gain(metric, rows, 0, nan, nan, nan, nan, nan, nan, "undecided", reason)


def _gain(
    metric: str,
    rows: int,
    days: int,
    value: float,
    replaced: float,
    interval: tuple[float, float, float],
    least: float,
    verdict: PaybackVerdict,
) -> Gain:
    gain, low, high = interval
    where = f"on {rows:,} later rows of {days} days"
    if not math.isfinite(low):
        reason = f"Undecided: {where} do not tell {metric} of both models apart."
        if rows:
            reason = f"Undecided: {metric} {value:.4f} against the replaced model's {replaced:.4f} {where}, too few to tell."
    else:
        told = {"paid": "Paid", "did_not_pay": "Did not pay", "undecided": "Undecided"}[verdict]
        asked = f", {least:.4f} was asked for" if verdict == "did_not_pay" else ""
        reason = (
            f"{told}: {metric} {value:.4f} against the replaced model's {replaced:.4f} {where}; "
            f"gain {gain:+.4f} ({low:+.4f} to {high:+.4f}){asked}."
        )
    return Gain(metric, rows, days, value, replaced, gain, low, high, least, verdict, reason)
