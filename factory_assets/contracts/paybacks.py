"""Did a promotion pay? What was replaced by what, and how the two did on the rows that came after."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

PaybackVerdict = Literal["paid", "did_not_pay", "undecided"]


@dataclass(frozen=True)
class Replacement:
    """One promotion, and the model that served the segment's rows until then: its own, or the nearest parent's."""

    segment: str
    version: int
    replaced_segment: str
    replaced_version: int
    promoted_at_utc: datetime


@dataclass(frozen=True)
class Gain:
    """How much better the promoted model did than the replaced one on the same later rows, in units of the metric.

    `gain` is positive when the promoted model is better, whichever direction the metric has; `gain_low` and `gain_high` are
    the ends of its interval, `least_gain` is what was asked for. Values that are undefined are NaN.
    """

    metric: str
    rows: int
    days: int
    value: float
    replaced_value: float
    gain: float
    gain_low: float
    gain_high: float
    least_gain: float
    verdict: PaybackVerdict
    reason: str


@dataclass(frozen=True)
class Payback:
    """The judgement on one promotion. `judged_until_utc` ends its rows, `judged_at_utc` is factory time."""

    replacement: Replacement
    judged_until_utc: datetime
    gain: Gain
    judged_at_utc: datetime


@dataclass(frozen=True)
class RetrainResult:
    """How one retrain of a segment turned out, by factory time: whether it paid, or None while that is not told."""

    segment: str
    at_utc: datetime
    paid: bool | None
