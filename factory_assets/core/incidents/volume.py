"""How many rows there are, and whether they were there before: half batches, double loads, frozen feeds."""

from collections.abc import Sequence
from statistics import median

from factory_assets.contracts.incidents import BatchProfile, Finding
from factory_assets.contracts.source import IncidentSpec
from factory_assets.core.incidents.history import History

_REPEATED = 0.8


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
