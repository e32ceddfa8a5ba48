"""When a champion really was worse: by the labels of the days that followed, all of them, which no monitor could see."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.monitoring.models import DAY, Model
from factory_assets.contracts.model_line import METRICS
from factory_assets.core.monitoring.quality import weighted_metric
from factory_assets.core.training.time_split import LABEL

SPAN_DAYS = 14
_DRAWS, _ONE_SIDED = 100, 1.645


@dataclass(frozen=True)
class Truth:
    """The two weeks that follow a day: whether the champion was worse than on its holdout, and whether a retrain helped."""

    day: int
    worse: bool
    retrain_helps: bool
    realised: float

    @property
    def is_loss(self) -> bool:
        """Worse than it was beyond chance, and a model of that day would have been better beyond chance."""
        return self.worse and self.retrain_helps


def find_truths(metric: str, rows: pd.DataFrame, champion: Model, later: Sequence[Model]) -> list[Truth]:
    """What the two weeks after each later training say; errors by resampling whole days, one-sided at 5% each."""
    sign = 1.0 if METRICS[metric][1] else -1.0
    before = _metrics_of(metric, rows, champion, champion.holdout)
    truths = []
    for retrained in later:
        days = rows[DAY].to_numpy()
        first, end = np.searchsorted(days, [retrained.day, retrained.day + SPAN_DAYS])
        chosen = first + np.flatnonzero(np.isfinite(rows[LABEL].to_numpy()[first:end]))
        now, fresh = (_metrics_of(metric, rows, model, chosen) for model in (champion, retrained))
        error = np.hypot(now[1:].std(), before[1:].std())
        gain = sign * (fresh - now)
        truths.append(
            Truth(
                day=retrained.day,
                worse=bool(sign * (before[0] - now[0]) > _ONE_SIDED * error),
                retrain_helps=bool(gain[0] > _ONE_SIDED * gain[1:].std() > 0),
                realised=float(now[0]),
            )
        )
    return truths


def _metrics_of(metric: str, rows: pd.DataFrame, model: Model, chosen: np.ndarray) -> np.ndarray:
    labels, days = rows[LABEL].to_numpy()[chosen], rows[DAY].to_numpy()[chosen]
    return weighted_metric(metric, labels, model.scores[chosen], _by_days(days))


def _by_days(days: np.ndarray) -> np.ndarray:
    _, place = np.unique(days, return_inverse=True)
    count = int(place.max()) + 1
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=_DRAWS)
    return np.concatenate([np.ones((1, len(days))), drawn[:, place]]).astype(np.float64)
