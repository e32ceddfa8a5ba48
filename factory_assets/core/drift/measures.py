"""How far current rows are from the reference: effect sizes over the cells of many features at once.

All take and give arrays over the first axis, one entry a comparison (a feature of a segment).
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property, wraps
from typing import TypeVar, cast

import numpy as np

from factory_assets.contracts.drift_policy import DriftMeasure
from factory_assets.core.drift.references import BINS, coarse_cells

# A bin that is empty on one side would make PSI infinite. Its share counts as half a row, and never as less than 1 in
# 10,000, the usual floor: else a huge reference would call a handful of new values a drift.
SHARE_FLOOR = 1e-4
# As Evidently norms it: a constant has no spread to measure in.
_LEAST_SPREAD = 1e-3
# What is worked out on the way to the bins of so many stays in the cache, and is not asked of the system again each time.
_AT_ONCE = 1_000
_Rowwise = TypeVar("_Rowwise", bound=Callable[..., np.ndarray])


@dataclass(frozen=True)
class Comparison:
    """Rows of reference and current in the same cells, for g comparisons of one kind (numbers or text).

    `segments` and `features` (g,) name each. `reference` and `current` have shape (g, k + 2): k padded cells, the one
    above or beyond, the one for missing values. `edges` (g, k) ends with repeats of the last edge; for text it is
    empty, (g, 0). `below` and `above` (g,) are the sums by which current values lie outside the edges; `spread`,
    `discrete` and `design_effect` (g,) are the reference's.
    `categories` (g,) holds the names of text cells, and empty tuples for numbers.
    """

    segments: np.ndarray
    features: np.ndarray
    reference: np.ndarray
    current: np.ndarray
    edges: np.ndarray
    below: np.ndarray
    above: np.ndarray
    spread: np.ndarray
    discrete: np.ndarray
    design_effect: np.ndarray
    categories: np.ndarray

    def take(self, places: np.ndarray) -> "Comparison":
        """The comparisons at these places, as numbers or as a mask."""
        return Comparison(*(getattr(self, column.name)[places] for column in fields(self)))

    def with_independent_rows(self) -> "Comparison":
        """The same, as if every row were independent of all others."""
        return replace(self, design_effect=np.ones(len(self.features)))

    @property
    def is_numeric(self) -> bool:
        """Whether the cells have an order."""
        return bool(self.edges.shape[1] > 0)

    def coarse(self) -> tuple[np.ndarray, np.ndarray]:
        """The bins of PSI, reference and current: ten of equal share for numbers, every cell for text; missing last."""
        return self._coarse

    @cached_property
    def _coarse(self) -> tuple[np.ndarray, np.ndarray]:
        if not self.is_numeric:
            return self.reference, self.current
        width = BINS + 3
        before, now = np.empty((2, len(self.reference), width))
        for start in range(0, len(self.reference), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            reference, current = self.reference[some], self.current[some]
            place = np.empty(reference.shape, dtype=np.intp)
            place[:, :-1] = coarse_cells(reference[:, :-2])
            place[:, -1] = width - 1
            place += np.arange(len(place))[:, None] * width
            for counts, bins in ((reference, before), (current, now)):
                bins[some] = np.bincount(place.ravel(), counts.ravel(), minlength=len(place) * width).reshape(-1, width)
        return before, now

    def shares_of(self, place: int) -> tuple[tuple[float, ...], tuple[float, ...], tuple[str, ...]]:
        """The bins of one comparison that hold anything: reference shares, current shares, and a short name for each."""
        before, now = (counts[place] for counts in self.coarse())
        if self.is_numeric:
            names = _numeric_labels(self.edges[place], coarse_cells(self.reference[place, :-2]), len(before))
        else:
            listed = self.categories[place]
            names = [*listed, *[""] * (len(before) - 2 - len(listed)), "other", "missing"]
        kept = np.flatnonzero((before > 0) | (now > 0))
        shares = (tuple((counts[kept] / max(counts.sum(), 1)).tolist()) for counts in (before, now))
        return *shares, tuple(names[bin_] for bin_ in kept)  # type: ignore[return-value]


def _numeric_labels(edges: np.ndarray, bins: np.ndarray, count: int) -> list[str]:
    """Each bin by its upper end."""
    names = [""] * count
    ends = np.searchsorted(bins[:-1], np.arange(count), side="right") - 1
    last = int(bins[-1])
    for bin_ in np.unique(bins[:-1]).tolist():
        names[bin_] = f"≤ {edges[ends[bin_]]:.4g}"
    names[last] = f"> {edges[ends[last - 1]]:.4g}" if ends[last - 1] >= 0 else "any value"
    names[-1] = "missing"
    return names


def effect_sizes(comparison: Comparison, measure: DriftMeasure) -> np.ndarray:
    """The effect of each comparison by one measure, shape (g,); 0 where a side has no rows.

    Raises:
        ValueError: for a measure that needs an order where there is none, or the other way round.
    """
    if measure in ("ks", "wasserstein"):
        if not comparison.is_numeric:
            raise ValueError(
                f"{measure} needs numbers, and these features are text: choose psi, jensen_shannon or cramers_v"
            )
        return kolmogorov_smirnov(comparison) if measure == "ks" else wasserstein(comparison)
    return {"psi": psi, "jensen_shannon": jensen_shannon, "cramers_v": cramers_v}[measure](*comparison.coarse())


def in_blocks(measure: _Rowwise) -> _Rowwise:
    """A function of arrays over the same first axis, worked out for so many comparisons at a time."""

    @wraps(measure)
    def whole(*arrays: np.ndarray) -> np.ndarray:
        starts = range(0, max(len(arrays[0]), 1), _AT_ONCE)
        return np.concatenate([measure(*(array[start : start + _AT_ONCE] for array in arrays)) for start in starts])

    return cast(_Rowwise, whole)


@in_blocks
def psi(reference: np.ndarray, current: np.ndarray) -> np.ndarray:
    """Population stability index of counts over the same bins, shape (g, k): sum of (p - q) ln(p / q).

    After Siddiqi, Credit Risk Scorecards (2006), section 10. At least 0, and 0 for equal shares or no rows.

    >>> psi(np.array([[50, 50]]), np.array([[60, 40]])).round(4).tolist()
    [0.0405]
    """
    rows = reference.sum(axis=1, keepdims=True), current.sum(axis=1, keepdims=True)
    either = (reference + current) > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        p, q = (
            np.maximum(counts / total, np.maximum(SHARE_FLOOR, 0.5 / total))
            for counts, total in zip((reference, current), rows, strict=True)
        )
        sums = np.where(either, (p - q) * np.log(p / q), 0.0).sum(axis=1)
    return _where_both(rows, sums)


def jensen_shannon(reference: np.ndarray, current: np.ndarray) -> np.ndarray:
    """Jensen-Shannon distance: the root of the divergence from the mean of both, in nats; from 0 to 0.83.

    Lin 1991, IEEE Transactions on Information Theory 37; the same as `scipy.spatial.distance.jensenshannon`.
    """
    p, q = _shares(reference), _shares(current)
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = sum(np.where(share > 0, share * np.log(share / middle), 0.0) for share in (p, q))
    empty = (reference.sum(axis=1) == 0) | (current.sum(axis=1) == 0)
    return np.where(empty, 0.0, np.sqrt(np.maximum(np.sum(terms, axis=1) / 2, 0.0)))


def cramers_v(reference: np.ndarray, current: np.ndarray) -> np.ndarray:
    """Cramér's V of the table of two samples by k bins: the root of chi-square over all rows; from 0 to 1."""
    statistic, _ = chi_square(reference, current)
    return np.asarray(np.sqrt(statistic / np.maximum((reference + current).sum(axis=1), 1)))


def chi_square(reference: np.ndarray, current: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pearson's statistic that both rows of counts come from one distribution, and its degrees of freedom."""
    rows = reference.sum(axis=1, keepdims=True).astype(np.float64), current.sum(axis=1, keepdims=True).astype(np.float64)
    both = (reference + current).astype(np.float64)
    filled = both > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = reference / rows[0] - current / rows[1]
        statistic = np.where(filled, np.square(gap) / both, 0.0).sum(axis=1) * (rows[0] * rows[1])[:, 0]
    return _where_both(rows, statistic), np.maximum(filled.sum(axis=1) - 1, 0)


def kolmogorov_smirnov(comparison: Comparison) -> np.ndarray:
    """The largest gap of the two distribution functions at the reference's edges, missing values above everything.

    Never larger than the two-sample statistic of all values, and short of it by at most one cell's share.
    """
    return np.asarray(np.abs(_gaps(comparison.reference, comparison.current)).max(axis=1, initial=0.0))


def wasserstein(comparison: Comparison) -> np.ndarray:
    """The first Wasserstein distance of the present values, in standard deviations of the reference.

    The integral of the gap of the distribution functions: exact outside the reference's range and for features whose
    values are edges, by a straight line between the edges otherwise.
    """
    gaps = _gaps(comparison.reference[:, :-1], comparison.current[:, :-1])[:, :-1]
    left, right = gaps[:, :-1], gaps[:, 1:]
    widths = np.diff(comparison.edges, axis=1)
    size = np.abs(left) + np.abs(right)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = np.where(size > 0, (np.square(left) + np.square(right)) / (2 * size), 0.0)
    line = np.where(left * right >= 0, size / 2, crossing)
    inside = (np.where(comparison.discrete[:, None], np.abs(left), line) * widths).sum(axis=1)
    present = comparison.current[:, :-1].sum(axis=1)
    outside = (comparison.below + comparison.above) / np.maximum(present, 1)
    spread = np.maximum(comparison.spread, _LEAST_SPREAD)
    either = (present > 0) & (comparison.reference[:, :-1].sum(axis=1) > 0)
    return np.where(either, (inside + outside) / spread, 0.0)


def _where_both(rows: tuple[np.ndarray, np.ndarray], values: np.ndarray) -> np.ndarray:
    """The values where both sides have rows (g, 1), and 0 elsewhere."""
    return np.where((rows[0] > 0)[:, 0] & (rows[1] > 0)[:, 0], values, 0.0)


def _gaps(reference: np.ndarray, current: np.ndarray) -> np.ndarray:
    return np.asarray(np.cumsum(_shares(reference), axis=1) - np.cumsum(_shares(current), axis=1))


def _shares(counts: np.ndarray) -> np.ndarray:
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
