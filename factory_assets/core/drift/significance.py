"""Whether sampling noise explains an effect: p-values over many comparisons at once.

Rows are worth less than independent ones where days resemble their neighbours: every sample size is divided by the
reference's design effect (Rao and Scott 1984) before anything is called significant.
"""

import warnings
from dataclasses import replace

import numpy as np
from scipy import special, stats

from factory_assets.contracts.drift_policy import DriftMeasure, DriftNull
from factory_assets.core.drift.measures import Comparison, chi_square, effect_sizes, in_blocks

_LEAST_EXPECTED = 5.0
# Below this many current rows the limit distributions are too rough for the small levels that a fleet needs.
_FEW_ROWS = 200
_DRAWS = 999
_LEAST_EXCEEDING = 10
# A permutation test is only paid for where the effect is large and the rough test is not off by so much.
_WORTH_A_TEST = 30
# A cell's share takes as long to draw as so many single rows; drawing rows lists all of both sides first.
_ROWS_OF_A_CELL = 8
_MOST_LISTED = 1_000_000


def p_values(
    comparison: Comparison,
    measure: DriftMeasure,
    effects: np.ndarray,
    wanted: np.ndarray,
    null: DriftNull,
    level: float,
    seed: int,
) -> np.ndarray:
    """The p-value of each comparison, shape (g,).

    Of Kolmogorov's limit for measures over an order (its test on the same cells, whatever the size of the effect), of
    chi-square for measures over bins; or of the effect itself under random relabelling of the rows.

    Args:
        comparison: the counts.
        measure: the measure of `effects`.
        effects: shape (g,).
        wanted: shape (g,), bool: the effect is large enough to ask whether noise explains it.
        level: the p-value that a verdict hangs on; far above it nothing is permuted.
        null: `analytic`; `permutation`; or `auto`, which permutes below 200 current rows.
        seed: of the permutations.
    """
    designs = np.maximum(comparison.design_effect, 1.0)
    if measure == "wasserstein":
        # Shuffling cells cannot move what lies outside the reference's range; ranks can.
        measure, effects = "ks", effect_sizes(comparison, "ks")
    may_permute = (comparison.current.sum(axis=1) < _FEW_ROWS) | (null == "permutation")
    if null == "analytic":
        may_permute = np.zeros_like(may_permute)
    if measure == "ks":
        values = kolmogorov_p_values(comparison.reference, comparison.current, designs)
    else:
        # Where it is not permuted, a rough test that cannot be small says enough.
        values = np.empty(len(effects))
        for test, chosen in ((chi_square_p_values, may_permute), (pooled_chi_square_p_values, ~may_permute)):
            if chosen.any():
                some = slice(None) if chosen.all() else chosen
                before, now = comparison.coarse()
                values[some] = test(before[some], now[some], designs[some])
    permuted = wanted & may_permute & (values <= _WORTH_A_TEST * level)
    if permuted.any():
        values[permuted] = permutation_p_values(
            comparison.take(permuted), measure, effects[permuted], designs[permuted], seed
        )
    return values


def kolmogorov_p_values(reference: np.ndarray, current: np.ndarray, designs: np.ndarray) -> np.ndarray:
    """Two-sample Kolmogorov-Smirnov test on ordered cells, missing last; conservative, since cells are ties.

    The limit distribution with Stephens' correction for small samples (1970, JRSS B 32).
    """
    sizes = [counts.sum(axis=1) / designs for counts in (reference, current)]
    shares = [counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) for counts in (reference, current)]
    distance = np.abs(np.cumsum(shares[0], axis=1) - np.cumsum(shares[1], axis=1)).max(axis=1, initial=0.0)
    total = np.maximum(sizes[0] + sizes[1], 1e-12)
    root = np.sqrt(sizes[0] * sizes[1] / total)
    scaled = np.where(root > 0, (root + 0.12 + 0.11 / np.maximum(root, 1e-12)) * distance, 0.0)
    return np.asarray(np.clip(special.kolmogorov(scaled), 0.0, 1.0))


@in_blocks
def chi_square_p_values(reference: np.ndarray, current: np.ndarray, designs: np.ndarray) -> np.ndarray:
    """Pearson's test as it is, without a care for rare bins."""
    statistic, freedom = chi_square(reference, current)
    return np.where(freedom > 0, special.chdtrc(np.maximum(freedom, 1), statistic / designs), 1.0)


@in_blocks
def pooled_chi_square_p_values(reference: np.ndarray, current: np.ndarray, designs: np.ndarray) -> np.ndarray:
    """Pearson's test with all bins pooled where fewer than five rows of a side are expected: it fails there.

    Taken from the F distribution with as many degrees of freedom as the smaller side has independent rows, as survey
    statistics do (Rao and Scott 1984): chi-square's tail is too thin for the small levels of a fleet (at 210 rows and a
    level of 2e-5 it gave three times the false alarms).
    """
    table = reference + current
    rows = np.stack([reference.sum(axis=1), current.sum(axis=1)])
    smaller = rows.min(axis=0) / np.maximum(rows.sum(axis=0), 1)
    rare = table * smaller[:, None] < _LEAST_EXPECTED * designs[:, None]
    pooled = [
        np.column_stack([np.where(rare, 0, side), np.where(rare, side, 0).sum(axis=1)]) for side in (reference, current)
    ]
    statistic, freedom = chi_square(pooled[0], pooled[1])
    degrees = np.maximum(freedom, 1)
    found = special.fdtrc(degrees, np.maximum(rows.min(axis=0) / designs - 1, 1), statistic / (designs * degrees))
    return np.where((rows.min(axis=0) > 0) & (freedom > 0), found, 1.0)


def permutation_p_values(
    comparison: Comparison, measure: DriftMeasure, effects: np.ndarray, designs: np.ndarray, seed: int
) -> np.ndarray:
    """How often rows shuffled between both sides give such an effect; in the far tail by a fitted curve.

    999 shuffles of the cells' rows (multivariate hypergeometric). With ten or more at least as large, their share; else
    the upper tail of a Pearson III curve with the shuffles' first three moments, since a fleet needs levels far below
    1/1000. The noise of PSI is proportional to the design effect, that of a distance to its root.
    """
    random = np.random.default_rng(seed)
    groups = len(effects)
    total = comparison.reference + comparison.current
    drawn = comparison.current.sum(axis=1)
    scale = designs if measure == "psi" else np.sqrt(designs)
    noise = np.empty((groups, _DRAWS))
    for group in range(groups):
        shuffled = _shuffle(random, total[group], int(drawn[group]))
        noise[group] = effect_sizes(_as_draws(comparison, group, total[group], shuffled), measure) * scale[group]
    exceeding = (noise >= effects[:, None] * (1 - 1e-12)).sum(axis=1)
    center = noise.mean(axis=1)
    deviations = noise - center[:, None]
    spread = np.sqrt(np.square(deviations).mean(axis=1))
    # Of equal shuffles the curve has no shape; the count decides.
    spread = np.where(spread > 1e-9 * np.maximum(center, 1e-9), spread, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        skew = np.where(spread > 0, (deviations**3).mean(axis=1) / spread**3, 0.0)
        tail = stats.pearson3.sf((effects - center) / spread, np.maximum(np.nan_to_num(skew), 0.0))
    counted = (exceeding + 1) / (_DRAWS + 1)
    return np.asarray(np.where((exceeding >= _LEAST_EXCEEDING) | (spread == 0), counted, np.minimum(tail, counted)))


def _shuffle(random: np.random.Generator, total: np.ndarray, drawn: int) -> np.ndarray:
    """The cells of `drawn` rows out of `total`, shape (999, cells): row by row where that is less to draw than by cells."""
    by_rows = drawn <= _ROWS_OF_A_CELL * len(total) and total.sum() <= _MOST_LISTED
    return random.multivariate_hypergeometric(total, drawn, _DRAWS, method="count" if by_rows else "marginals")


def _as_draws(comparison: Comparison, group: int, total: np.ndarray, shuffled: np.ndarray) -> Comparison:
    """One comparison with each shuffle as its rows; what does not change is there once."""
    same = comparison.take(np.array([group]))
    return replace(same, reference=total - shuffled, current=shuffled)
