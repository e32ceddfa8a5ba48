"""All that the decision of one tick rests on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from factory_assets.contracts.retraining import Capacity, FailedCheck, Price, RetrainHistory, RunFact
from factory_assets.core.retraining.payments import PaymentRecord


@dataclass(frozen=True)
class Situation:
    """All that a decision rests on.

    Attributes:
        line: the model line.
        failed: of each trigger, its newest verdict if that one is a failure.
        serving: champion version by segment; a segment without a champion is absent.
        history: the ledger.
        runs: by run key of the line's requests in flight or expired, what became of the run; absent when there is none.
        now: factory time.
        wall_now: wall time.
        judging: a run that is still judging the line; its verdicts are waited for.
        capacity: limits of the factory.
        price: what a retrain is expected to take.
        rows_a_day: traffic by segment; absent counts as one row.
        payments: by segment, how past retrains paid.
    """

    line: str
    failed: Sequence[FailedCheck]
    serving: Mapping[str, int]
    history: RetrainHistory
    runs: Mapping[str, RunFact]
    now: datetime
    wall_now: datetime
    judging: str | None = None
    capacity: Capacity = field(default_factory=Capacity)
    price: Price = field(default_factory=Price)
    rows_a_day: Mapping[str, float] = field(default_factory=dict)
    payments: Mapping[str, PaymentRecord] = field(default_factory=dict)
