"""The verdict on a batch: broken, drifted, or sound."""

from collections.abc import Sequence
from datetime import date, timedelta

from factory_assets.contracts.incidents import BatchProfile, BatchVerdict, Finding, IncidentKind, Route
from factory_assets.contracts.source import IncidentSpec
from factory_assets.core.incidents.gaps import find_null_bursts
from factory_assets.core.incidents.history import History
from factory_assets.core.incidents.hours import find_shifted_hours
from factory_assets.core.incidents.swaps import find_swaps
from factory_assets.core.incidents.values import find_misfits, find_moved, find_stuck, find_unit_changes
from factory_assets.core.incidents.volume import find_frozen, find_volume

# The cause before its consequences: a load of another day twice also has odd hours, a unit change also turns orders around.
_PRECEDENCE: tuple[IncidentKind, ...] = (
    "schema_change",
    "late_partition",
    "double_load",
    "frozen_feed",
    "timezone_shift",
    "swapped_columns",
    "unit_change",
    "half_batch",
    "null_burst",
    "stuck_value",
    "contract_breach",
)
_RULES = (
    find_misfits,
    find_volume,
    find_frozen,
    find_shifted_hours,
    find_swaps,
    find_unit_changes,
    find_null_bursts,
    find_stuck,
)


def evaluate_batch(batch: BatchProfile, history: Sequence[BatchProfile], spec: IncidentSpec) -> BatchVerdict:
    """Says where a batch goes: `hold` when it is broken, `drift` when plausible values moved, else `sound`.

    Args:
        batch: the day as its files say it.
        history: published days; those from `spec.history` before the batch to the day before it count.
        spec: the source's limits.

    Returns:
        The verdict with a sentence; findings are sorted by cause before consequence.
    """
    since = batch.day - timedelta(days=spec.history.days)
    days = [day for day in sorted(history, key=lambda found: found.day) if since <= day.day < batch.day]
    if len(days) < spec.min_days:
        return _verdict(batch, "sound", (), (), f"not judged: {len(days)} days of history, {spec.min_days} are needed.")
    past = History(days)
    if past.usual_rows(batch.day.weekday()) < spec.min_rows:
        return _verdict(batch, "sound", (), (), f"not judged: fewer than {spec.min_rows} rows on a usual day.")
    found = [finding for rule in _RULES for finding in rule(batch, past, spec) if finding.kind not in spec.tolerate]
    if found:
        ordered = sort_findings(found)
        return _verdict(batch, "hold", ordered, (), describe_findings(ordered))
    moved = find_moved(batch, past)
    reason = f"values moved in {', '.join(moved)}; plausible, so left to the drift checks." if moved else "as usual."
    return _verdict(batch, "drift" if moved else "sound", (), moved, reason)


def is_expected(day: date, published: Sequence[date], spec: IncidentSpec) -> bool:
    """Whether a day without a file is missing: the feed has history, and most of the same weekdays had one.

    >>> days = [date(2013, 1, 1) + timedelta(days=n) for n in range(20)]
    >>> is_expected(date(2013, 1, 21), days, IncidentSpec())
    True
    >>> is_expected(date(2013, 1, 20), [day for day in days if day.weekday() != 6], IncidentSpec())
    False
    """
    since = day - timedelta(days=spec.history.days)
    known = {past for past in published if since <= past < day}
    if len(known) < spec.min_days or "late_partition" in spec.tolerate:
        return False
    weeks = [day - timedelta(days=7 * week) for week in range(1, spec.history.days // 7 + 1)]
    same = [past for past in weeks if past >= min(known)]
    return not same or 2 * sum(past in known for past in same) > len(same)


def describe_findings(findings: Sequence[Finding]) -> str:
    """The first findings in a sentence, and how many more there are."""
    shown = "; ".join(str(finding) for finding in findings[:3])
    more = f"; and {len(findings) - 3} more" if len(findings) > 3 else ""
    return f"{shown}{more}."


def sort_findings(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Causes before their consequences, the larger first."""
    return tuple(sorted(findings, key=lambda found: (_PRECEDENCE.index(found.kind), -found.rows, found.column)))


def _verdict(
    batch: BatchProfile, route: Route, findings: tuple[Finding, ...], moved: tuple[str, ...], reason: str
) -> BatchVerdict:
    return BatchVerdict(batch.source, batch.day, route, findings, moved, f"{batch.source} {batch.day}: {reason}")
