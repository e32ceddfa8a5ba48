"""Drift of features and predictions: a large effect (PSI) that sampling noise (chi-square) does not explain.

PSI is the effect size, after Siddiqi, Credit Risk Scorecards (2006), section 10: sum of (p - q) ln(p / q) over bins.
Alone it alarms on noise (36-42% of undrifted tests at 50 rows), so a chi-square test of homogeneity on the same bins,
adjusted over the features by Benjamini and Hochberg (1995), has to agree.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from factory_assets.contracts.reports import DriftReport, FeatureDrift, FeatureReference
from factory_assets.core.features import is_numeric, numeric_values

MAX_CATEGORIES = 30
# A bin that is empty on one side would make PSI infinite. Its share counts as half a row, and never as less than 1 in
# 10,000, the usual floor: else a huge reference would call a handful of new values a drift.
SHARE_FLOOR = 1e-4
_LEAST_EXPECTED = 5.0


def build_reference(feature: str, values: pd.Series, max_bins: int = 10) -> FeatureReference:
    """Bins one feature's training rows: quantile cut points of numbers, the commonest values of text.

    Cut points are values that occur, so ties never straddle two bins. When the smallest or largest value fills a bin of
    its own (a constant does), values beyond it get a bin too, empty until something new turns up.

    Args:
        feature: its name.
        values: shape (n,), numbers, booleans or text; infinite numbers count as missing.
        max_bins: of a numeric feature, at least 2, beside the bin for missing values.

    Raises:
        ValueError: for a column that is neither numbers nor text.
    """
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    if is_numeric(values):
        edges = _quantile_edges(numeric_values(values), max_bins)
    else:
        common = values.dropna().astype("str").value_counts()
        ranked = sorted(zip(common.index, common, strict=True), key=lambda pair: (-pair[1], pair[0]))
        categories = tuple(str(name) for name, _ in ranked[:MAX_CATEGORIES])
    unfilled = FeatureReference(feature, edges, categories, ())
    return FeatureReference(feature, edges, categories, tuple(int(n) for n in count_bins(unfilled, values)))


def count_bins(reference: FeatureReference, values: pd.Series) -> np.ndarray:
    """Counts rows in the bins of the reference.

    Returns:
        int64, one entry a bin and a last one for missing values: len(edges) + 2, or len(categories) + 2.

    Raises:
        ValueError: when a feature that was numeric is text now: a broken contract, which is not drift.
    """
    if reference.categories:
        found = pd.Index(reference.categories).get_indexer(pd.Index(values.astype("str")))
        bins = np.where(found < 0, len(reference.categories), found)
        missing = values.isna().to_numpy(dtype=bool)
    elif reference.edges:
        numbers = numeric_values(values)
        missing = np.isnan(numbers)
        bins = np.searchsorted(np.asarray(reference.edges), numbers, side="left")
    else:  # Nothing but missing values in training: any value at all is one bin.
        missing = values.isna().to_numpy(dtype=bool)
        bins = np.zeros(len(values), dtype=np.int64)
    last = max(len(reference.categories), len(reference.edges)) + 1
    return np.bincount(np.where(missing, last, bins), minlength=last + 1)


def evaluate_drift(
    references: Sequence[FeatureReference],
    current: pd.DataFrame,
    threshold: float,
    min_rows: int,
    false_discovery_rate: float,
) -> DriftReport:
    """Compares the current rows with the reference, feature by feature.

    A feature drifted when its PSI is above the threshold and its adjusted p-value at most the false discovery rate.
    With fewer than `min_rows` current rows nothing is judged, and nothing drifts; the numbers are reported anyway.

    Args:
        references: one a feature, as made by `build_reference`.
        current: shape (n, ...), a column of each referenced name.
        threshold: of PSI; 0.1 is usually read as slight, 0.2 as large.
        min_rows: fewest current rows for a verdict.
        false_discovery_rate: expected share of false alarms among the alarms.

    Raises:
        ValueError: for a referenced column that is absent or changed from numbers to text.
    """
    absent = [reference.feature for reference in references if reference.feature not in current.columns]
    if absent:
        raise ValueError(f"features {absent} have a reference and no current column: a broken contract, not drift")
    pairs = [(np.asarray(r.counts, dtype=np.int64), count_bins(r, current[r.feature])) for r in references]
    p_values = np.array([chi_square_p_value(before, after) for before, after in pairs])
    adjusted = stats.false_discovery_control(p_values, method="bh") if len(p_values) else p_values
    judged = len(current) >= min_rows
    features = []
    for reference, (before, after), p_value, p_adjusted in zip(references, pairs, p_values, adjusted, strict=True):
        psi = population_stability_index(before, after)
        features.append(
            FeatureDrift(
                feature=reference.feature,
                psi=psi,
                p_value=float(p_value),
                p_adjusted=float(p_adjusted),
                drifted=judged and psi > threshold and bool(p_adjusted <= false_discovery_rate),
                reference_share=tuple(_shares(before).tolist()),
                current_share=tuple(_shares(after).tolist()),
                bin_labels=bin_labels(reference),
            )
        )
    reference_rows = max((int(before.sum()) for before, _ in pairs), default=0)
    reason = _reason(features, judged, reference_rows, len(current), threshold, min_rows)
    drifted = any(feature.drifted for feature in features)
    return DriftReport(judged, drifted, reference_rows, len(current), threshold, tuple(features), reason)


def population_stability_index(reference: np.ndarray, current: np.ndarray) -> float:
    """PSI of two vectors of counts over the same bins, shape (k,): at least 0, and 0 for equal counts or no rows.

    >>> round(population_stability_index(np.array([50, 50]), np.array([60, 40])), 4)
    0.0405
    """
    rows = reference.sum(), current.sum()
    if min(rows) == 0:
        return 0.0
    either = (reference + current) > 0
    p, q = (
        np.maximum(counts[either] / total, max(SHARE_FLOOR, 0.5 / total))
        for counts, total in zip((reference, current), rows, strict=True)
    )
    return float(np.sum((p - q) * np.log(p / q)))


def chi_square_p_value(reference: np.ndarray, current: np.ndarray) -> float:
    """p-value of Pearson's test that both counts, shape (k,), come from one distribution; 1 where nothing can be said.

    Bins where fewer than five current rows are expected are pooled, since the approximation fails there.
    """
    table = np.stack([reference, current]).astype(np.float64)
    totals = table.sum(axis=1)
    if totals.min() == 0:
        return 1.0
    expected = table.sum(axis=0) * (totals.min() / totals.sum())
    rare = expected < _LEAST_EXPECTED
    pooled = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
    pooled = pooled[:, pooled.sum(axis=0) > 0]
    if pooled.shape[1] < 2:
        return 1.0
    return float(stats.chi2_contingency(pooled, correction=False).pvalue)


def bin_labels(reference: FeatureReference) -> tuple[str, ...]:
    """A short name for each bin, in order: numeric bins by their upper end, the one for missing values last."""
    if reference.categories:
        return (*reference.categories, "other", "missing")
    edges = [f"{edge:.4g}" for edge in reference.edges]
    if not edges:
        return ("any value", "missing")
    return (*(f"≤ {edge}" for edge in edges), f"> {edges[-1]}", "missing")


def _quantile_edges(numbers: np.ndarray, max_bins: int) -> tuple[float, ...]:
    present = np.sort(numbers[~np.isnan(numbers)])
    if len(present) == 0:
        return ()
    cuts = np.unique(np.quantile(present, np.arange(1, max_bins) / max_bins, method="inverted_cdf"))
    if cuts[0] == present[0] > np.finfo(np.float64).min:
        cuts = np.concatenate([[np.nextafter(present[0], -np.inf)], cuts])
    return tuple(float(cut) for cut in cuts)


def _shares(counts: np.ndarray) -> np.ndarray:
    total = counts.sum()
    return counts / total if total else np.zeros(len(counts))


def _reason(features: Sequence[FeatureDrift], judged: bool, before: int, after: int, threshold: float, min_rows: int) -> str:
    if not judged:
        return f"Not judged: {after:,} current rows, and fewer than {min_rows:,} say nothing about drift."
    worst = sorted(features, key=lambda f: -f.psi)
    drifted = [f for f in worst if f.drifted]
    rows = f"{after:,} current against {before:,} reference rows"
    if not drifted:
        largest = f"; the largest PSI is {worst[0].psi:.3f} ({worst[0].feature})" if worst else ""
        return f"None of {len(features)} features drifted past PSI {threshold:g} in {rows}{largest}."
    named = ", ".join(f"{f.feature} (PSI {f.psi:.2f}, {_shown_p(f.p_adjusted)})" for f in drifted[:3])
    more = f" and {len(drifted) - 3} more" if len(drifted) > 3 else ""
    return f"{len(drifted)} of {len(features)} features drifted past PSI {threshold:g} in {rows}: {named}{more}."


def _shown_p(p_value: float) -> str:
    return "p < 1e-9" if p_value < 1e-9 else f"p = {p_value:.1g}"
