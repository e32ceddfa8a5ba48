"""The rules that find a broken batch, one function a kind.

All are robust: they compare with the middle and the extremes of the days before, so that one odd day in the history decides
nothing, and a real storm or holiday is no incident. What they rest on is what real feeds do when nothing is broken. Values
are missing together: a cancelled flight lacks all its outcomes at once, so missing values are judged by combination and not
by column. Magnitudes move by parts and not by powers of ten. Which of two columns is the larger does not turn around. Whole
rows do not come again the next day.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from factory_assets.contracts.incidents import BatchProfile, ColumnProfile, Finding
from factory_assets.contracts.source import IncidentSpec

_FAMILIAR = 1 / 3  # A combination of missing values seen on a third of the days belongs to the feed.
_MOSTLY = 0.75  # Even a familiar one does not take three quarters of a day. (The worst storm of a real year: 57%.)
_HABITUAL = 0.05
_TIMES = (
    8.0  # Fahrenheit to Celsius, miles to kilometres and a bad season stay far below; cents, metres and thousands above.
)
_DECISIVE = 0.9
_REPEATED = 0.8
_OUTSIDE = 0.04


@dataclass(frozen=True)
class History:
    """The published days before a batch, oldest first."""

    days: Sequence[BatchProfile]

    @cached_property
    def columns(self) -> dict[str, list[ColumnProfile]]:
        """Each column's profiles, oldest first."""
        found: dict[str, list[ColumnProfile]] = {}
        for day in self.days:
            for column in day.columns:
                found.setdefault(column.column, []).append(column)
        return found

    def usual_rows(self, weekday: int) -> float:
        """The median of the same weekday where it was seen three times, else of all days."""
        same = [day.rows for day in self.days if day.day.weekday() == weekday]
        return median(same if len(same) >= 3 else [day.rows for day in self.days])

    def counts_days(self, name: str) -> bool:
        """Whether a column holds one value a day and another the next, like a date in parts: it jumps by design."""
        profiles = self.columns.get(name, ())
        return bool(profiles) and all(p.mode_share == 1 for p in profiles) and len({p.content for p in profiles}) > 1

    def is_filled(self, name: str) -> bool:
        """Whether a usual day has most values of a column: of a few gusts an hour no habit can be told."""
        profiles = self.columns.get(name, ())
        return bool(profiles) and median(profile.null_share for profile in profiles) < 0.5

    @cached_property
    def seldom_missing(self) -> frozenset[str]:
        """Columns of which a usual day has nearly all values."""
        return frozenset(
            name for name, profiles in self.columns.items() if median(p.null_share for p in profiles) < _HABITUAL
        )

    def missing_together(self, batch: BatchProfile) -> dict[str, int]:
        """Rows by the columns that they lack together, of those that are seldom missing.

        A column that is often missing (a gust on a calm day) meets any other by chance, and makes new combinations daily.
        """
        found: dict[str, int] = {}
        for pattern, rows in batch.null_patterns.items():
            kept = ",".join(name for name in pattern.split(",") if name in self.seldom_missing)
            if kept:
                found[kept] = found.get(kept, 0) + rows
        return found

    def middle_quantiles(self, name: str) -> tuple[float, ...]:
        """The median over the days of each quantile of a column; empty for one without numbers."""
        known = [column.quantiles for column in self.columns.get(name, ()) if column.quantiles]
        return tuple(median(values) for values in zip(*known, strict=True)) if known else ()


def find_volume(batch: BatchProfile, history: History, spec: IncidentSpec) -> list[Finding]:
    """Half a batch, and rows that came twice: byte for byte, or under new keys.

    The usual volume is the lower of the weekday's and the whole history's for 'too few' (a holiday looks like a Sunday), and
    the higher of them for 'too many'.
    """
    everyday = median(day.rows for day in history.days)
    usual = history.usual_rows(batch.day.weekday())
    low, high = min(usual, everyday), max(usual, everyday)
    repeated = batch.duplicates / max(1, batch.rows)
    known = max(day.duplicates / max(1, day.rows) for day in history.days)
    if batch.rows and repeated > known + 0.2:
        found = f"{batch.duplicates:,} rows that repeat another byte for byte"
        return [Finding("double_load", "", batch.duplicates, f"at most {known:.0%} of the rows twice", found)]
    if batch.rows < spec.least_volume * low:
        return [Finding("half_batch", "", batch.rows, f"about {low:,.0f} rows", f"{batch.rows:,} ({batch.rows / low:.0%})")]
    if batch.rows > spec.most_volume * high:
        found = f"{batch.rows:,} ({batch.rows / high:.0%})"
        return [Finding("double_load", "", batch.rows, f"about {high:,.0f} rows", found)]
    return []


def find_frozen(batch: BatchProfile, history: History, spec: IncidentSpec) -> list[Finding]:
    """Rows of an earlier day under new time stamps, in a feed whose rows do not come again by nature."""
    pairs = zip(history.days, history.days[1:], strict=False)
    natural = [share_in_common(a.row_sketch, b.row_sketch) for a, b in pairs]
    if not batch.row_sketch or (natural and median(natural) > _REPEATED / 2):
        return []
    shared, day = max((share_in_common(day.row_sketch, batch.row_sketch), day.day) for day in history.days)
    if shared < _REPEATED:
        return []
    found = f"about {shared:.0%} of the rows are those of {day} under new time stamps"
    return [Finding("frozen_feed", "", round(shared * batch.rows), "new rows", found)]


def find_unit_changes(batch: BatchProfile, history: History, spec: IncidentSpec) -> list[Finding]:
    """Numbers in another unit, in all rows or at least in the upper ones."""
    findings = []
    for column in batch.columns:
        usual = history.middle_quantiles(column.column)
        if not column.quantiles or not usual or history.counts_days(column.column):
            continue
        factors = [abs(now) / abs(before) for now, before in zip(column.quantiles, usual, strict=True) if before]
        whole = len(factors) >= 3 and (min(factors) >= _TIMES or 0 < max(factors) <= 1 / _TIMES)
        if whole or _upper_part_is_larger(column, history.columns[column.column]):
            shown = median(factors) if whole else factors[-1]
            rows = column.rows - column.nulls
            expected = f"a median about {usual[2]:,.4g} and a 95th percentile about {usual[4]:,.4g}"
            found = f"{column.quantiles[2]:,.4g} and {column.quantiles[4]:,.4g}, {shown:,.3g} times as much"
            findings.append(Finding("unit_change", column.column, rows, expected, found))
    return findings


def _upper_part_is_larger(column: ColumnProfile, before: Sequence[ColumnProfile]) -> bool:
    """A part of the rows in a larger unit: the 95th percentile leaves a history in which it was steady."""
    upper = [abs(day.quantiles[4]) for day in before if day.quantiles]
    if not upper or min(upper) <= 0:
        return False
    wandering = max(upper) / median(upper)
    return abs(column.quantiles[4]) > _TIMES * wandering * max(upper)


def find_swaps(batch: BatchProfile, history: History, spec: IncidentSpec) -> list[Finding]:
    """Two columns whose values stand under each other's name."""
    findings = []
    numbers = {column.column: column for column in batch.columns if column.quantiles}
    own = {
        name: _distance(column, history.columns.get(name, ()))
        for name, column in numbers.items()
        if not history.counts_days(name) and history.is_filled(name) and column.null_share < 0.5
    }
    for pair, share in batch.orders.items():
        first, second = pair.split("<")
        before = [day.orders[pair] for day in history.days if pair in day.orders]
        turned = len(before) >= 3 and (
            (min(before) >= _DECISIVE and share <= 1 - _DECISIVE) or (max(before) <= 1 - _DECISIVE and share >= _DECISIVE)
        )
        if first in own and second in own and (turned or min(own[first], own[second]) > 8):
            crossed = [
                _distance(numbers[first], history.columns.get(second, ())),
                _distance(numbers[second], history.columns.get(first, ())),
            ]
            # A turned order says most of it; without one each must look like the other, and not at all like itself.
            apart = own[first] + own[second] if turned else min(own[first], own[second]) * 2 / 3
            if max(crossed) < (6 if turned else 4) and sum(crossed) < apart:
                findings.append(_swap(batch, first, second))
    return findings + _swapped_texts(batch, history)


def _swapped_texts(batch: BatchProfile, history: History) -> list[Finding]:
    findings = []
    texts = [column for column in batch.columns if not column.quantiles and column.sketch]
    for position, one in enumerate(texts):
        swapped = (other for other in texts[position + 1 :] if _texts_are_swapped(one, other, history))
        findings += [_swap(batch, one.column, other.column) for other in swapped]
    return findings


def _swap(batch: BatchProfile, first: str, second: str) -> Finding:
    expected = f"values of {first} in {first}"
    return Finding("swapped_columns", first, batch.rows, expected, f"those of {second}, and the other way round")


def _distance(column: ColumnProfile, before: Sequence[ColumnProfile]) -> float:
    """How far the quantiles lie from their usual place, in units of how far they wander from day to day."""
    known = [day.quantiles for day in before if day.quantiles]
    if not known:
        return 0.0
    deviations = []
    spread = median(q[4] - q[0] for q in known)
    for now, values in zip(column.quantiles, zip(*known, strict=True), strict=True):
        middle = median(values)
        wander = 1.4826 * median(abs(value - middle) for value in values)
        deviations.append(abs(now - middle) / max(wander, 0.02 * spread, 1e-9 * abs(middle), 1e-12))
    total: float = sum(min(deviation, 1e6) for deviation in deviations)
    return total / len(deviations)


def _texts_are_swapped(one: ColumnProfile, other: ColumnProfile, history: History) -> bool:
    own = _likeness(one, history, one.column), _likeness(other, history, other.column)
    crossed = _likeness(one, history, other.column), _likeness(other, history, one.column)
    return min(crossed) > 0.3 and max(own) < min(crossed) / 2


def _likeness(column: ColumnProfile, history: History, name: str) -> float:
    known = [share_in_common(day.sketch, column.sketch) for day in history.columns.get(name, ())[-7:] if day.sketch]
    return median(known) if known else 0.0


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


def find_null_bursts(batch: BatchProfile, history: History, spec: IncidentSpec) -> list[Finding]:
    """Values missing in a combination of columns that the feed does not know, or far oftener than it ever did."""
    findings = []
    past = [(history.missing_together(day), max(1, day.rows)) for day in history.days]
    for pattern, rows in history.missing_together(batch).items():
        before = [missing.get(pattern, 0) / day_rows for missing, day_rows in past]
        most = max(before)
        familiar = sum(share > 0 for share in before) >= _FAMILIAR * len(before)
        limit = max(_MOSTLY, most + spec.null_jump) if familiar else most + spec.null_jump
        share = rows / max(1, batch.rows)
        if share > limit:
            columns = pattern.replace(",", ", ")
            expected = f"at most {limit:.0%} of the rows without {columns} (only)"
            blamed = _emptied(pattern.split(","), batch, history)
            findings.append(Finding("null_burst", blamed, rows, expected, f"{share:.0%}"))
    blamed_columns = {finding.column for finding in findings}
    for column in batch.columns:
        usual = median(day.null_share for day in history.columns.get(column.column, ())) if history.days else 1.0
        if column.null_share >= 0.95 and usual < 0.5 and column.column not in blamed_columns and column.rows:
            found = f"{column.null_share:.0%}"
            findings.append(
                Finding("null_burst", column.column, column.nulls, f"about {usual:.0%} of the rows without it", found)
            )
    return findings


def _emptied(pattern: Sequence[str], batch: BatchProfile, history: History) -> str:
    """The column of a combination that gained the most missing values."""

    def gain(name: str) -> float:
        now = batch.column(name)
        before = [day.null_share for day in history.columns.get(name, ())]
        return (now.null_share if now else 0.0) - (median(before) if before else 0.0)

    return max(pattern, key=gain)


def find_stuck(batch: BatchProfile, history: History, spec: IncidentSpec) -> list[Finding]:
    """One value where values used to change: too long in a row for one entity, or in too much of the day."""
    findings = []
    for column in batch.columns:
        before = history.columns.get(column.column, ())
        if not before or column.rows == column.nulls or history.counts_days(column.column):
            continue
        if _is_at_an_end(column, before):
            continue
        longest = max(day.longest_run for day in before)
        share = max(day.mode_share for day in before)
        # The mix of texts is what drift checks look at; only one text for all rows is a broken feed.
        is_text = not column.quantiles
        in_a_row = not is_text and column.longest_run > max(1.5 * longest + 4, 0.05 * column.rows)
        much, often = (0.95, 0.6) if is_text else (share + 0.2, 1.0)
        everywhere = column.mode_share > max(much, 1.5 * share) and share < often
        if in_a_row or everywhere:
            rows = column.longest_run if in_a_row else round(column.mode_share * column.rows)
            expected = f"one value at most {longest} times in a row and in {share:.0%} of the rows"
            found = f"{column.longest_run} times in a row and in {column.mode_share:.0%}"
            findings.append(Finding("stuck_value", column.column, rows, expected, found))
    return findings


def _is_at_an_end(column: ColumnProfile, before: Sequence[ColumnProfile]) -> bool:
    """Whether the commonest value is the end of its scale, where it may stay: fog is 100 per cent for hours.

    The end of the scale is the history's, or a little beyond; an error code far outside is none.
    """
    lower = [day.minimum for day in before if day.minimum is not None]
    upper = [day.maximum for day in before if day.maximum is not None]
    if column.mode is None or not lower or not upper:
        return False
    low, high = min(lower), max(upper)
    margin = 0.1 * (high - low)
    at_top = column.mode == column.maximum and high <= column.mode <= high + margin
    return at_top or (column.mode == column.minimum and low - margin <= column.mode <= low)


def find_misfits(batch: BatchProfile, history: History, spec: IncidentSpec) -> list[Finding]:
    """A column that no longer has its declared type."""
    return [
        Finding("schema_change", column.column, column.misfits, "values of the declared type", f"{column.misfits:,} others")
        for column in batch.columns
        if column.misfits > 0.5 * max(1, column.rows - column.nulls + column.misfits)
    ]


def find_moved(batch: BatchProfile, history: History) -> tuple[str, ...]:
    """Columns whose plausible values moved: what drift checks are for, and no reason to hold a day."""
    moved = []
    for column in batch.columns:
        before = history.columns.get(column.column, ())
        if column.quantiles and not history.counts_days(column.column) and _distance(column, before) > 6:
            moved.append(column.column)
    return tuple(moved)


def share_in_common(a: Sequence[int], b: Sequence[int]) -> float:
    """The share of values that two sets have in common, from the smallest hashes of each (a bottom-k sketch).

    >>> share_in_common((1, 2, 3, 4), (1, 2, 3, 4)), share_in_common((1, 2), (3, 4)), share_in_common((), (1,))
    (1.0, 0.0, 0.0)
    """
    if not a or not b:
        return 0.0
    smallest = sorted({*a, *b})[: max(len(a), len(b))]
    both = {*a} & {*b}
    return sum(value in both for value in smallest) / len(smallest)
