"""How the retrains of each segment have paid so far, and how much longer it waits for the next one for that."""

from collections.abc import Iterable
from itertools import takewhile

from factory_assets.contracts.paybacks import RetrainResult
from factory_assets.contracts.retrain_policy import PaybackSpec
from factory_assets.core.retraining.decision import PaymentRecord


def evaluate_payments(spec: PaybackSpec, results: Iterable[RetrainResult]) -> dict[str, PaymentRecord]:
    """The record of each segment; results that are not told yet, or never could be, count neither way.

    The cooldown is multiplied once the newest `slower_after` retrains in a row did not pay, and again with each one more;
    one that paid puts it back.

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
    unpaid = len(list(takewhile(lambda paid: not paid, newest_first)))
    times = unpaid - spec.slower_after + 1
    factor = 1.0 if times <= 0 else min(spec.slower_by ** min(times, 64), spec.slower_at_most)
    return PaymentRecord(sum(newest_first), len(newest_first), max(factor, 1.0))
