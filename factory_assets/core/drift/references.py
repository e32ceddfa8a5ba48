"""What is kept of the training rows, so that they are never read again: cells of equal share, and how rows hang together.

Of a number: cut points at equally spaced quantiles, smallest and largest value included, and the rows in each cell. The
ten bins of PSI are unions of these cells, and Kolmogorov's and Wasserstein's distances are read off them.
Of text: the commonest values and their rows.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd

from factory_assets.contracts.reports import FeatureReference, ScoreProfile
from factory_assets.core.models.features import is_numeric, numeric_values

MAX_CATEGORIES = 30
BINS = 10
# (rows up to, cells): a cell's share stays well below the noise of a distance between samples of that size.
_CELLS = ((500, 20), (5_000, 40), (50_000, 100), (np.inf, 200))
# Weather lasts for days and seasons for months: how a day resembles the days after it is counted up to four weeks.
_MOST_LAGS, _FEWEST_DAYS = 28, 8
_PROFILE_BINS = 20


def build_reference(feature: str, values: pd.Series, days: np.ndarray | None = None) -> FeatureReference:
    """The reference of one feature.

    Args:
        feature: its name.
        values: of the training rows: numbers, booleans or text; infinite numbers count as missing.
        days: the day of each row as an integer; with it the design effect is measured, without it it is 1.

    Raises:
        ValueError: for a column that is neither numbers nor text.
    """
    moments = None if days is None or not len(values) else np.asarray(days, dtype=np.int64)
    if is_numeric(values):
        return numeric_references([feature], numeric_values(values)[:, None], moments)[0]
    return _text_reference(feature, values.astype(object).to_numpy(), moments)


def build_score_profile(scores: np.ndarray, labels: np.ndarray) -> ScoreProfile:
    """What the holdout says of each range of scores: the mean label and the mean errors, in bins of equal share."""
    finite = np.isfinite(scores) & np.isfinite(labels)
    scores, labels = scores[finite], labels[finite]
    if len(scores) == 0:
        return ScoreProfile((), (), (), (), ())
    cuts = np.unique(np.quantile(scores, np.arange(1, _PROFILE_BINS) / _PROFILE_BINS, method="inverted_cdf"))
    cuts = cuts[cuts < scores.max()]
    bins = np.searchsorted(cuts, scores, side="left")
    rows = np.bincount(bins, minlength=len(cuts) + 1)

    def means(of: np.ndarray) -> tuple[float, ...]:
        return tuple((np.bincount(bins, of, minlength=len(cuts) + 1) / rows).tolist())

    error = scores - labels
    return ScoreProfile(
        tuple(cuts.tolist()), tuple(rows.tolist()), means(labels), means(np.abs(error)), means(np.square(error))
    )


def cells_of(reference: FeatureReference, values: pd.Series) -> np.ndarray:
    """The cell of each value, shape (n,): by `edges` or `categories`, then "above" or "other", then missing.

    Raises:
        ValueError: when a feature that was numeric is text now: a broken contract, which is not drift.
    """
    if reference.categories:
        found = pd.Index(reference.categories).get_indexer(pd.Index(values.astype("str")))
        cells, missing = np.where(found < 0, len(reference.categories), found), values.isna().to_numpy(dtype=bool)
    elif reference.edges:
        numbers = numeric_values(values)
        cells, missing = np.searchsorted(np.asarray(reference.edges), numbers, side="left"), np.isnan(numbers)
    else:  # Nothing but missing values in training: any value at all is one cell.
        cells = np.zeros(len(values), dtype=np.int64)
        missing = np.isnan(numeric_values(values)) if is_numeric(values) else values.isna().to_numpy(dtype=bool)
    return np.where(missing, len(reference.counts) - 1, cells)


def coarse_cells(edge_counts: np.ndarray) -> np.ndarray:
    """Which of ten bins of equal share each numeric cell belongs to, the cell above all edges included.

    A bin ends at the first edge up to which its share of the present rows lies. The cell of the smallest value and the
    one above the largest are bins of their own when those values alone fill a bin, so that a constant that moves is seen.

    Args:
        edge_counts: reference rows of each cell that ends at an edge, shape (..., k).

    Returns:
        Bin numbers, shape (..., k + 1), rising along the last axis.
    """
    counts = np.asarray(edge_counts, dtype=np.int64)
    reached = np.cumsum(counts, axis=-1)
    total = np.maximum(reached[..., -1:], 1)
    reached -= counts
    reached *= BINS
    numbers: np.ndarray = np.empty((*counts.shape[:-1], counts.shape[-1] + 1), dtype=np.int64)
    # Whole numbers far below 2**52: a quotient that is cut off is the quotient of whole numbers, and quicker.
    np.minimum(reached / total, BINS - 1, out=numbers[..., :-1], casting="unsafe")
    numbers[..., -1] = BINS - 1
    # An empty first cell is there only to tell values below a heavy smallest one.
    numbers[counts[..., 0] == 0, 1:] += 1
    return numbers


def numeric_references(names: Sequence[str], numbers: np.ndarray, days: np.ndarray | None) -> list[FeatureReference]:
    """The references of all numeric features of one segment, each as `build_reference` makes it.

    Args:
        names: of the features.
        numbers: float64 of shape (n, features), NaN for what is missing or infinite.
        days: as of `build_reference`.
    """
    ordered, missing = np.sort(numbers, axis=0), np.isnan(numbers)  # missing values last
    rows = len(ordered)
    absent = missing.sum(axis=0).tolist()
    present = [rows - count for count in absent]
    distinct = ((ordered[1:] != ordered[:-1]) & (np.arange(1, rows)[:, None] < present)).sum(axis=0) + 1
    columns = [ordered[:count, place] for place, count in enumerate(present)]
    edges = [_edges(column, values) for column, values in zip(columns, distinct.tolist(), strict=True)]
    counts = _edge_counts(columns, edges)
    effects = np.ones(len(names))
    if days is not None and rows and names:
        # A byte each: of many rows, numbers of eight bytes would be as large as the rows.
        cells = np.empty(numbers.shape, dtype=np.uint8)
        bins = coarse_cells(counts)
        for place, cuts in enumerate(edges):
            cells[:, place] = bins[place][np.searchsorted(cuts, numbers[:, place], side="left")]
        cells[missing] = BINS + 1
        cells[:, [not count for count in present]] = 0
        effects = design_effects(cells, days)
    return [
        FeatureReference(
            feature=name,
            edges=tuple(cuts.tolist()),
            categories=(),
            counts=(*filled[: len(cuts)], 0, lacking),
            spread=spread,
            discrete=len(cuts) - (filled[0] == 0) == values if len(cuts) else True,
            design_effect=effect,
        )
        for name, cuts, filled, lacking, values, spread, effect in zip(
            names,
            edges,
            counts.tolist(),
            absent,
            distinct.tolist(),
            _spreads(ordered, present),
            effects.tolist(),
            strict=True,
        )
    ]


def _spreads(ordered: np.ndarray, present: Sequence[int]) -> list[float]:
    if len(ordered) and min(present, default=0) == len(ordered):
        spreads: list[float] = ordered.std(axis=0).tolist()
        return spreads
    return [float(ordered[:count, place].std()) if count else 0.0 for place, count in enumerate(present)]


def _edges(present: np.ndarray, distinct: int) -> np.ndarray:
    """Values at equally spaced quantiles of a sorted column, smallest and largest included; all of few values."""
    rows = len(present)
    if rows == 0:
        return present
    places = _quantile_places(rows)
    cuts = present if distinct <= len(places) else present[places]
    first = np.empty(len(cuts), dtype=bool)
    first[0] = True
    np.not_equal(cuts[1:], cuts[:-1], out=first[1:])
    cuts = cuts[first]
    smallest = cuts[0]
    if present[(rows + BINS - 1) // BINS - 1] == smallest > np.finfo(np.float64).min:  # it fills a bin alone
        cuts = np.concatenate([[np.nextafter(smallest, -np.inf)], cuts])
    return np.asarray(cuts)


@cache
def _quantile_places(rows: int) -> np.ndarray:
    """Of the smallest value, then for each j of the smallest with at least j/cells of the rows up to it.

    The outermost cells are halved down to single rows: a long tail is as wide as all else, and taken as evenly filled it
    would give Wasserstein's distance a share of its own (0.24 deviations for the delays of January and July).
    """
    cells = next(cells for most, cells in _CELLS if rows <= most)
    even = (np.arange(1, cells + 1) * rows + cells - 1) // cells - 1
    outer = rows // cells >> np.arange(1, max(rows // cells, 1).bit_length())
    return np.unique(np.concatenate([[0], outer, even, rows - 1 - outer]))


def _edge_counts(columns: Sequence[np.ndarray], edges: Sequence[np.ndarray]) -> np.ndarray:
    """The rows of each cell that ends at an edge, shape (features, most edges): zeros after the last, the largest value."""
    upto = np.empty((len(columns), max(map(len, edges), default=0) or 1), dtype=np.int64)
    for counts, present, cuts in zip(upto, columns, edges, strict=True):
        counts[: len(cuts)] = np.searchsorted(present, cuts, side="right")
        counts[len(cuts) :] = len(present)
    upto[:, 1:] -= upto[:, :-1].copy()
    return upto


def _text_reference(feature: str, values: np.ndarray, days: np.ndarray | None) -> FeatureReference:
    missing = pd.isna(values)
    # Objects and not numpy's own text, which ends at a trailing NUL.
    codes, names = pd.factorize(np.array([str(value) for value in values[~missing]], dtype=object))
    sizes = np.bincount(codes, minlength=len(names))
    ranked = sorted(range(len(names)), key=lambda place: (-sizes[place], names[place]))[:MAX_CATEGORIES]
    categories = tuple(str(names[place]) for place in ranked)
    listed = [int(sizes[place]) for place in ranked]
    counts = (*listed, int(sizes.sum()) - sum(listed), int(missing.sum())) if categories else (0, int(missing.sum()))
    effect = 1.0
    if days is not None and categories:
        rank = np.full(len(names), len(categories))
        rank[ranked] = np.arange(len(ranked))
        cells = np.full(len(values), len(categories) + 1)
        cells[~missing] = rank[codes]
        effect = float(design_effects(cells[:, None], days)[0])
    return FeatureReference(feature, (), categories, counts, 0.0, True, effect)


def design_effects(cells: np.ndarray, days: np.ndarray) -> np.ndarray:
    """By how much the cells' shares vary more than those of independent rows: the factor that a sample is worth less.

    Rows of a day share its weather, and days their neighbours'. With r(t, k) the rows of day t in cell k less their
    expectation, the variance of the cell's total is the sum of r(t, k) r(s, k) with Bartlett weights over |t - s|; the
    factor is its mean ratio to that of independent rows (first-order correction of Rao and Scott 1984, Annals of
    Statistics 12, for serially correlated clusters). At least 1; and 1 when there are too few days to tell.

    Args:
        cells: shape (n, features), numbers from 0.
        days: shape (n,), integers.
    """
    first = int(days.min())
    span = int(days.max()) - first + 1
    rows, features = cells.shape
    if span < _FEWEST_DAYS or features == 0:
        return np.ones(features)
    width = int(cells.max()) + 1
    totals = np.array([np.bincount(column, minlength=width) for column in cells.T])
    filled = totals > 0
    widths = filled.sum(axis=1)
    # Cells that hold a row, those of one feature beside those of the next: most features fill few.
    numbers, ends, since = np.cumsum(filled, axis=1) - 1, np.cumsum(widths).tolist(), days - first
    counts = np.empty((span, ends[-1]), dtype=np.int64)
    for column, number, own, end in zip(cells.T, numbers, widths.tolist(), ends, strict=True):
        found = np.bincount(since * own + number[column], minlength=span * own)
        counts[:, end - own : end] = found.reshape(span, own)
    share = totals[filled] / rows
    excess = counts - np.bincount(since, minlength=span)[:, None] * share
    # Summed over all windows of `lags + 1` days, two days share as many windows as their Bartlett weight says.
    lags = min(_MOST_LAGS, span // 4)
    sums = np.zeros((span + 2 * lags + 1, len(share)))
    np.cumsum(excess, axis=0, out=sums[lags + 1 : lags + 1 + span])
    sums[lags + 1 + span :] = sums[lags + span]
    windows = sums[lags + 1 :] - sums[: -lags - 1]
    variance = np.square(windows, out=windows).sum(axis=0) / (lags + 1)
    ratios = np.zeros(filled.shape)
    ratios[filled] = variance / (rows * share)
    factors: np.ndarray = np.maximum(ratios.sum(axis=1) / np.maximum(widths - 1, 1), 1.0)
    return factors
