"""Two columns whose values stand under each other's name."""

from statistics import median

from factory_assets.contracts.incidents import BatchProfile, ColumnProfile, Finding
from factory_assets.contracts.source import IncidentSpec
from factory_assets.core.incidents.history import History
from factory_assets.core.incidents.values import distance
from factory_assets.core.incidents.volume import share_in_common

_DECISIVE = 0.9


def find_swaps(batch: BatchProfile, history: History, spec: IncidentSpec) -> list[Finding]:
    """Two columns whose values stand under each other's name."""
    findings = []
    numbers = {column.column: column for column in batch.columns if column.quantiles}
    own = {
        name: distance(column, history.columns.get(name, ()))
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
                distance(numbers[first], history.columns.get(second, ())),
                distance(numbers[second], history.columns.get(first, ())),
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


def _texts_are_swapped(one: ColumnProfile, other: ColumnProfile, history: History) -> bool:
    own = _likeness(one, history, one.column), _likeness(other, history, other.column)
    crossed = _likeness(one, history, other.column), _likeness(other, history, one.column)
    return min(crossed) > 0.3 and max(own) < min(crossed) / 2


def _likeness(column: ColumnProfile, history: History, name: str) -> float:
    known = [share_in_common(day.sketch, column.sketch) for day in history.columns.get(name, ())[-7:] if day.sketch]
    return median(known) if known else 0.0
