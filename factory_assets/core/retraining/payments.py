"""How the retrains of each segment have paid so far, and how long it waits for the next one for that."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile

from factory_assets.contracts.paybacks import RetrainResult
from factory_assets.contracts.retrain_policy import PaybackSpec


@dataclass(frozen=True)
class PaymentRecord:
    """How a segment's past promotions turned out, and how many times its cooldown is as long for that, before its bounds."""

    paid: int = 0
    judged: int = 0
    cooldown_factor: float = 1.0


def evaluate_payments(spec: PaybackSpec, results: Iterable[RetrainResult]) -> dict[str, PaymentRecord]:
    """The record of each segment; results that are not told yet, or never could be, count neither way.

    The cooldown is multiplied once the newest `slower_after` retrains in a row did not pay, and again with each one more;
    it is divided alike while they pay. One that turned out the other way puts it back. `evaluate_cooldown` bounds it.

    Args:
        spec: the declared rules.
        results: of one line, in any order.
    """
    by_segment: dict[str, list[bool]] = {}
    for result in sorted(results, key=lambda result: result.at_utc, reverse=True):
        if result.paid is not None:
            by_segment.setdefault(result.segment, []).append(result.paid)
    return {segment: _record(spec, newest_first) for segment, newest_first in by_segment.items()}


def _record(spec: PaybackSpec, newest_first: list[bool]) -> PaymentRecord:
    alike = len(list(takewhile(lambda paid: paid == newest_first[0], newest_first)))
    times = max(alike - spec.slower_after + 1, 0)
    slower = max(min(spec.slower_by ** min(times, 64), spec.slower_at_most), 1.0)
    return PaymentRecord(sum(newest_first), len(newest_first), 1 / slower if newest_first[0] else slower)
