"""What a backtest of retrain policies found: of each policy its retrains, its quality over time, and its cost."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal


@dataclass(frozen=True)
class ReplayedRetrain:
    """One retrain of a replay: asked for on the evening of `day`, at the instant `at_utc`, for these triggers."""

    day: date
    at_utc: datetime
    triggers: tuple[str, ...]
    outcome: Literal["promoted", "kept_champion", "failed"]
    reason: str
    cpu_seconds: float


@dataclass(frozen=True)
class Difference:
    """A policy against another on the same rows.

    `gain` is positive where the policy is better, in the unit of the metric; between `low` and `high` it lies with a
    confidence of 95%. `cost_saved` is the share of the other's cost.
    """

    against: str
    gain: float
    low: float
    high: float
    cost_saved: float


@dataclass(frozen=True)
class PolicyOutcome:
    """One policy over the whole stretch.

    `value` is the line's metric on every judged row, as it was scored first; `weeks` are the metric by the first day of
    each week. `price` is in the unit of the setting.
    """

    policy: str
    triggers: tuple[str, ...]
    retrains: tuple[ReplayedRetrain, ...]
    value: float
    weeks: tuple[tuple[date, float], ...]
    training_cpu_seconds: float
    scoring_cpu_seconds: float
    price: float
    difference: Difference | None = None

    @property
    def promotions(self) -> int:
        """Retrains that gave a new champion."""
        return sum(retrain.outcome == "promoted" for retrain in self.retrains)


@dataclass(frozen=True)
class BacktestReport:
    """All policies of one backtest, on the same days, rows and pinned tables.

    `first` is the day after whose end the first model was trained, the days after it are judged, up to `last`. `fits` and
    `fit_cpu_seconds` count each training once, however many policies asked for it.
    """

    line: str
    metric: str
    higher_is_better: bool
    first: date
    last: date
    rows: int
    feature_set_version: int
    label_version: int
    fits: int
    fit_cpu_seconds: float
    policies: tuple[PolicyOutcome, ...]
