"""What the values of a column say: another unit, one that is stuck, a lost type, and those that only moved."""

from collections.abc import Sequence
from statistics import median

from factory_assets.contracts.incidents import BatchProfile, ColumnProfile, Finding
from factory_assets.contracts.source import IncidentSpec
from factory_assets.core.incidents.history import History

# Fahrenheit to Celsius, miles to kilometres and a bad season stay far below; cents, metres and thousands above.
_TIMES = 8.0


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
        if column.quantiles and not history.counts_days(column.column) and distance(column, before) > 6:
            moved.append(column.column)
    return tuple(moved)


def distance(column: ColumnProfile, before: Sequence[ColumnProfile]) -> float:
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
