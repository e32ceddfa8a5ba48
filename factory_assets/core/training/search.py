"""Hyperparameter search inside the training rows: which candidates, judged on which later rows, and which one wins."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from factory_assets.contracts.tuning import ParamValue, RangeSpec, SearchSpec

Params = dict[str, ParamValue]
# Draws without a new candidate after which a small space counts as exhausted.
_PATIENCE = 100
# scikit-learn's own word for such arrays of rows: positions to fit on, positions to judge on.
Fold = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Trial:
    """One candidate: its parameters, the metric on each fold, their mean (NaN without one), and what it raised."""

    params: Mapping[str, ParamValue]
    values: tuple[float, ...]
    value: float
    error: str = ""


@dataclass(frozen=True)
class SearchReport:
    """All trials in the order in which they were drawn; the first one has no parameter but those of the line."""

    metric: str
    trials: tuple[Trial, ...]
    winner: int

    @property
    def params(self) -> Mapping[str, ParamValue]:
        """The parameters that won; they stand above those of the line."""
        return self.trials[self.winner].params


def draw_candidates(search: SearchSpec, seed: int) -> list[Params]:
    """At most `budget` candidates without a repetition, the empty one first; the same seed draws the same.

    All combinations in their written order when they fit the budget, else a uniform sample (log-uniform where said), which
    finds good values of the parameters that matter sooner than a grid (Bergstra and Bengio 2012, JMLR 13, section 4).

    >>> draw_candidates(SearchSpec(space={"max_depth": (2, 4)}), seed=0)
    [{}, {'max_depth': 2}, {'max_depth': 4}]
    """
    combinations = _combinations(search)
    if combinations is not None and len(combinations) < search.budget:
        return [{}, *combinations]
    random = np.random.default_rng(seed)
    candidates: list[Params] = [{}]
    failures = 0
    while len(candidates) < search.budget and failures < _PATIENCE:
        drawn = {name: _draw(values, random) for name, values in search.space.items()}
        failures = failures + 1 if drawn in candidates else 0
        if not failures:
            candidates.append(drawn)
    return candidates


def cut_folds(moments: np.ndarray, folds: int) -> Iterator[Fold]:
    """Positions to fit on and to judge on: the latter always later, so that no fold knows its future.

    The rows are parted into `folds + 1` blocks of about equal size; each block after the first is judged by what was fitted
    on all blocks before it. Rows of one moment stay together, and a fold that would be empty is left out.

    Args:
        moments: as-of time of each row, ascending, of shape (n,).
        folds: how many at most.
    """
    edges = (round(len(moments) * part / (folds + 1)) for part in range(1, folds + 1))
    starts = {_start_of_block(moments, edge) for edge in edges if edge < len(moments)}
    for start, end in itertools.pairwise([*sorted(starts - {len(moments)}), len(moments)]):
        yield np.arange(start), np.arange(start, end)


def _start_of_block(moments: np.ndarray, edge: int) -> int:
    """The first row of the moment at `edge`; of the next one, where nothing would be before it."""
    first = int(np.searchsorted(moments, moments[edge], side="left"))
    return first or int(np.searchsorted(moments, moments[edge], side="right"))


def search_params(
    candidates: list[Params], folds: list[Fold], judge: Callable[[Params, Fold], float], metric: str, higher_is_better: bool
) -> SearchReport:
    """Judges every candidate on every fold; the best mean wins, and of equal ones the first.

    A fold on which the metric is undefined (NaN) counts for no candidate. A candidate that raises cannot win, and its trial
    says why; when no candidate has a value the first one, the line's own parameters, stands.
    """
    trials = [_try(params, folds, judge) for params in candidates]
    defined = [
        position for position in range(len(folds)) if any(math.isfinite(t.values[position]) for t in trials if t.values)
    ]
    trials = [_average(trial, defined) for trial in trials]
    sign = 1.0 if higher_is_better else -1.0
    values = [sign * trial.value if math.isfinite(trial.value) else -math.inf for trial in trials]
    return SearchReport(metric, tuple(trials), int(np.argmax(values)))


def _try(params: Params, folds: list[Fold], judge: Callable[[Params, Fold], float]) -> Trial:
    try:
        return Trial(params, tuple(float(judge(params, fold)) for fold in folds), math.nan)
    except Exception as error:  # scikit-learn says so in many ways, and one bad candidate is no reason to lose the others
        return Trial(params, (), math.nan, f"{type(error).__name__}: {error}".splitlines()[0])


def _average(trial: Trial, defined: list[int]) -> Trial:
    values = [trial.values[position] for position in defined] if trial.values else []
    return Trial(trial.params, trial.values, float(np.mean(values)) if values else math.nan, trial.error)


def _combinations(search: SearchSpec) -> list[Params] | None:
    """Every combination, or None when a range makes them endless, or there are more than could be tried."""
    choices = list(search.space.values())
    if any(isinstance(values, RangeSpec) for values in choices):
        return None
    listed: list[Any] = [values for values in choices if not isinstance(values, RangeSpec)]
    if math.prod(map(len, listed)) >= search.budget:
        return None
    return [dict(zip(search.space, values, strict=True)) for values in itertools.product(*listed)]


def _draw(values: tuple[ParamValue, ...] | RangeSpec, random: np.random.Generator) -> ParamValue:
    if not isinstance(values, RangeSpec):
        return values[int(random.integers(len(values)))]
    if values.log:
        # Half a step beyond either end, so that a whole end is drawn as often as its neighbours.
        margin = 0.5 if values.is_whole else 0.0
        low, high = math.log(values.low - margin), math.log(values.high + margin)
        number = math.exp(random.uniform(low, high))
    elif values.is_whole:
        return int(random.integers(int(values.low), int(values.high), endpoint=True))
    else:
        number = random.uniform(values.low, values.high)
    return int(min(max(round(number), values.low), values.high)) if values.is_whole else float(number)
