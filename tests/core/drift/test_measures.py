import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial import distance

from factory_assets.core.drift import build_reference
from factory_assets.core.drift.frames import compare_frame
from factory_assets.core.drift.measures import cramers_v, effect_sizes, jensen_shannon, psi

COUNTS = st.lists(st.integers(0, 500), min_size=2, max_size=12)


def effect(measure, before, after):
    (comparison,) = compare_frame({"all": [build_reference("x", pd.Series(before))]}, pd.DataFrame({"x": after}))
    return float(effect_sizes(comparison, measure)[0])


def one(measure, before, after):
    return float(measure(np.array([before]), np.array([after]))[0])


def samples(seed, shift=0.0, rows=(3000, 700)):
    random = np.random.default_rng(seed)
    return random.normal(size=rows[0]), random.normal(shift, 1.2, size=rows[1])


class TestPsi:
    def test_known_value(self):
        expected = 0.1 * math.log(0.6 / 0.5) + 0.1 * math.log(0.5 / 0.4)
        assert one(psi, [50, 50], [60, 40]) == pytest.approx(expected)

    def test_equals_the_symmetric_divergence_of_scipy_where_no_bin_is_empty(self):
        random = np.random.default_rng(0)
        for _ in range(20):
            p, q = random.integers(1, 900, size=(2, 8))
            shares = p / p.sum(), q / q.sum()
            assert one(psi, p, q) == pytest.approx(stats.entropy(*shares) + stats.entropy(*shares[::-1]))

    def test_an_empty_bin_counts_as_half_a_row_and_a_huge_reference_does_not_inflate_it(self):
        assert one(psi, [100, 0], [100, 0]) == 0.0
        half_a_row = 0.5 / 200
        expected = (0.1 - half_a_row) * math.log(0.1 / half_a_row) + 0.1 * math.log(1 / 0.9)
        assert one(psi, [90, 10], [200, 0]) == pytest.approx(expected)
        few_new = [one(psi, [rows, 0], [990, 10]) for rows in (10**5, 10**9)]
        assert few_new[0] == pytest.approx(few_new[1], rel=1e-3)
        assert few_new[1] < 0.1

    @given(COUNTS, COUNTS)
    def test_is_never_negative_and_never_infinite(self, before, after):
        size = min(len(before), len(after))
        assert 0 <= one(psi, before[:size], after[:size]) < 20

    @given(COUNTS, st.randoms(use_true_random=False))
    def test_does_not_depend_on_the_order_of_bins(self, counts, random):
        table = np.array([counts, counts[::-1]])
        order = list(range(len(counts)))
        random.shuffle(order)
        assert one(psi, *table[:, order]) == pytest.approx(one(psi, *table), abs=1e-9)


@pytest.mark.parametrize("measure", [psi, jensen_shannon, cramers_v])
class TestBinned:
    @given(counts=COUNTS)
    def test_is_zero_for_the_same_counts(self, measure, counts):
        assert one(measure, counts, counts) == pytest.approx(0, abs=1e-7)

    def test_is_zero_where_a_side_is_empty(self, measure):
        assert one(measure, [0, 0], [3, 4]) == one(measure, [3, 4], [0, 0]) == 0

    def test_comparisons_do_not_mix(self, measure):
        random = np.random.default_rng(0)
        before, after = random.integers(0, 90, (2, 5, 7))
        assert measure(before, after).tolist() == pytest.approx(
            [one(measure, *pair) for pair in zip(before, after, strict=True)]
        )


class TestAgainstScipy:
    def test_jensen_shannon(self):
        random = np.random.default_rng(0)
        for _ in range(20):
            p, q = random.integers(0, 50, size=(2, 9))
            assert one(jensen_shannon, p, q) == pytest.approx(distance.jensenshannon(p, q), abs=1e-9)

    def test_cramers_v(self):
        table = np.array([[80, 30, 10], [20, 30, 40]])
        assert one(cramers_v, *table) == pytest.approx(stats.contingency.association(table, method="cramer"))

    @pytest.mark.parametrize("shift", [0.0, 0.3, 2.0])
    def test_kolmogorov_smirnov_is_short_by_less_than_a_cell(self, shift):
        before, after = samples(0, shift)
        exact = stats.ks_2samp(before, after).statistic
        assert exact - 1 / 40 <= effect("ks", before, after) <= exact

    def test_kolmogorov_smirnov_of_few_values_is_exact(self):
        random = np.random.default_rng(0)
        before, after = random.poisson(3, 500).astype(float), random.poisson(4, 300).astype(float)
        assert effect("ks", before, after) == pytest.approx(stats.ks_2samp(before, after).statistic)

    @pytest.mark.parametrize("shift", [0.0, 0.3, 2.0, 9.0])
    def test_wasserstein_is_within_two_hundredths_of_a_deviation(self, shift):
        before, after = samples(0, shift)
        exact = stats.wasserstein_distance(before, after) / np.std(before)
        assert effect("wasserstein", before, after) == pytest.approx(exact, abs=0.02)

    def test_wasserstein_of_few_values_is_exact_also_outside_the_reference(self):
        random = np.random.default_rng(0)
        before, after = random.choice([0.0, 1, 2, 5], 500), random.choice([-3.0, 0, 2, 5, 11], 300)
        exact = stats.wasserstein_distance(before, after) / np.std(before)
        assert effect("wasserstein", before, after) == pytest.approx(exact)


def test_wasserstein_of_a_constant_that_moves_is_as_large_as_the_move():
    assert effect("wasserstein", [5.0] * 300, [6.0] * 50) == pytest.approx(1 / 1e-3)


def test_a_feature_gone_missing_moves_every_measure_but_wasserstein():
    before, after = np.arange(1000.0), np.where(np.arange(1000) % 2, np.nan, np.arange(1000.0))
    for measure in ("psi", "jensen_shannon", "ks"):
        assert effect(measure, before, after) > 0.2
    assert effect("wasserstein", before, after) < 0.01


def test_text_has_no_order_to_measure_along():
    (comparison,) = compare_frame({"all": [build_reference("t", pd.Series(["a", "b"]))]}, pd.DataFrame({"t": ["a"]}))
    assert effect_sizes(comparison, "cramers_v")[0] > 0
    with pytest.raises(ValueError, match="ks needs numbers, and these features are text"):
        effect_sizes(comparison, "ks")


def test_wasserstein_of_long_tails_is_within_three_hundredths_of_a_deviation():
    random = np.random.default_rng(0)
    before, after = random.lognormal(0, 1.5, 20_000), random.lognormal(0.3, 1.5, 20_000)
    exact = stats.wasserstein_distance(before, after) / np.std(before)
    assert effect("wasserstein", before, after) == pytest.approx(exact, abs=0.03)
