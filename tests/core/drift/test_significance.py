from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from factory_assets.core.drift import build_reference
from factory_assets.core.drift.frames import compare_frame
from factory_assets.core.drift.measures import effect_sizes
from factory_assets.core.drift.significance import (
    chi_square_p_values,
    kolmogorov_p_values,
    p_values,
    permutation_p_values,
    pooled_chi_square_p_values,
)

COUNTS = st.lists(st.integers(0, 500), min_size=2, max_size=12)
ONE = np.ones(1)


def pooled(before, after):
    return float(pooled_chi_square_p_values(np.array([before]), np.array([after]), ONE)[0])


def draws(random, weights, sizes, count):
    return (random.multinomial(size, weights, count) for size in sizes)


def compared(before, after):
    (comparison,) = compare_frame({"all": [build_reference("x", pd.Series(before))]}, pd.DataFrame({"x": after}))
    return comparison


class TestChiSquare:
    def test_is_that_of_scipy_as_it_is_and_with_a_fatter_tail_when_bins_are_pooled(self):
        random = np.random.default_rng(1)
        for _ in range(20):
            table = random.multinomial(3000, np.ones(6) / 6, 2)
            theirs = stats.chi2_contingency(table, correction=False).pvalue
            assert chi_square_p_values(table[:1], table[1:], ONE)[0] == pytest.approx(theirs)
            assert pooled(*table) == pytest.approx(theirs, rel=0.05)
            assert pooled(*table) > theirs or theirs > 0.3

    def test_bins_empty_on_both_sides_change_nothing(self):
        before, after = [300, 200, 100], [90, 70, 40]
        assert pooled([*before, 0], [*after, 0]) == pytest.approx(pooled(before, after))

    @pytest.mark.parametrize("counts", [([5, 5], [0, 0]), ([0, 0], [5, 5]), ([9, 0], [4, 0]), ([0, 0], [0, 0])])
    def test_says_nothing_where_there_is_nothing_to_compare(self, counts):
        assert pooled(*counts) == 1.0

    def test_new_values_in_force_are_seen_against_a_huge_reference(self):
        assert pooled([*[30_000] * 10, 0], [*[19] * 10, 10]) < 1e-6

    @pytest.mark.parametrize("weights", [np.ones(10), 1 / np.arange(1, 32) ** 1.5], ids=["deciles", "long tail"])
    def test_false_alarms_come_at_about_the_promised_rate(self, weights):
        before, after = draws(np.random.default_rng(2), weights / weights.sum(), (2000, 200), 500)
        assert np.mean(pooled_chi_square_p_values(before, after, np.ones(500)) < 0.05) < 0.09

    def test_a_single_row_of_a_very_rare_value_is_no_proof(self):
        """Unpooled, a tenth of undrifted windows would be called different here at a level of one in two hundred."""
        weights = np.array([0.1] * 10 + [0.00005] * 8) / 1.0004
        before, after = draws(np.random.default_rng(3), weights, (300_000, 200), 500)
        assert np.mean(pooled_chi_square_p_values(before, after, np.ones(500)) < 0.005) < 0.04
        assert np.mean(chi_square_p_values(before, after, np.ones(500)) < 0.005) > 0.05

    @given(COUNTS, COUNTS)
    def test_is_a_probability(self, before, after):
        size = min(len(before), len(after))
        assert 0 <= pooled(before[:size], after[:size]) <= 1


class TestKolmogorov:
    def test_is_close_to_that_of_scipy_and_on_its_safe_side(self):
        random = np.random.default_rng(0)
        for shift in (0.0, 0.1, 0.2):
            before, after = random.normal(size=2000), random.normal(shift, size=400)
            comparison = compared(before, after)
            ours = kolmogorov_p_values(comparison.reference, comparison.current, ONE)[0]
            theirs = stats.ks_2samp(before, after, method="asymp").pvalue
            assert theirs * 0.8 <= ours <= max(10 * theirs, theirs + 0.3)

    def test_false_alarms_stay_below_the_promised_rate_down_to_thirty_rows(self):
        before, after = draws(np.random.default_rng(0), np.ones(20) / 20, (300, 30), 4000)
        found = kolmogorov_p_values(before, after, np.ones(4000))
        for level in (0.05, 0.01, 0.002):
            assert np.mean(found <= level) <= level

    def test_says_nothing_without_rows(self):
        assert kolmogorov_p_values(np.array([[3, 4]]), np.array([[0, 0]]), ONE)[0] == 1


class TestDesignEffect:
    def test_rows_that_are_worth_a_quarter_give_the_p_value_of_a_quarter_of_the_rows(self):
        before, after = np.array([[4000, 4000, 4000]]), np.array([[480, 400, 320]])
        for test in (chi_square_p_values, kolmogorov_p_values):
            assert test(before, after, 4 * ONE) == pytest.approx(test(before // 4, after // 4, ONE))

    def test_a_permutation_test_knows_it_too(self):
        comparison = compared(np.arange(3000.0), np.arange(150.0) * 14)
        effects = effect_sizes(comparison, "psi")
        free = permutation_p_values(comparison, "psi", effects, ONE, 0)
        assert permutation_p_values(comparison, "psi", effects, 3 * ONE, 0) > 10 * free


class TestPermutation:
    @pytest.mark.parametrize("measure", ["psi", "jensen_shannon", "ks"])
    def test_false_alarms_come_at_the_promised_rate_at_thirty_rows(self, measure):
        random = np.random.default_rng(5)
        references = {f"s{n:03d}": [build_reference("x", pd.Series(random.normal(size=300)))] for n in range(300)}
        frame, segments = pd.DataFrame({"x": random.normal(size=9000)}), np.repeat(sorted(references), 30)
        (comparison,) = compare_frame(references, frame, segments)
        found = permutation_p_values(comparison, measure, effect_sizes(comparison, measure), np.ones(300), 0)
        assert 0.02 < np.mean(found <= 0.05) < 0.09
        assert np.mean(found <= 0.001) <= 0.01

    def test_agrees_with_scipy_on_the_same_statistic(self):
        random = np.random.default_rng(0)
        before, after = random.poisson(3, 200).astype(float), random.poisson(3.4, 60).astype(float)
        comparison = compared(before, after)
        effects = effect_sizes(comparison, "ks")
        ours = permutation_p_values(comparison, "ks", effects, ONE, 0)[0]
        theirs = stats.permutation_test(
            (before, after), lambda a, b: stats.ks_2samp(a, b, method="asymp").statistic, n_resamples=500, rng=0,
            alternative="greater",
        ).pvalue  # fmt: skip
        assert ours == pytest.approx(theirs, abs=0.06)

    def test_the_tail_goes_on_below_one_in_a_thousand(self):
        comparison = compared(np.random.default_rng(0).normal(size=2000), np.random.default_rng(1).normal(1.0, size=100))
        assert permutation_p_values(comparison, "psi", effect_sizes(comparison, "psi"), ONE, 0)[0] < 1e-6

    def test_the_same_seed_gives_the_same_p_value(self):
        comparison = compared(np.arange(500.0), np.arange(50.0) * 8)
        twice = [permutation_p_values(comparison, "psi", effect_sizes(comparison, "psi"), ONE, 3)[0] for _ in range(2)]
        assert twice[0] == twice[1]


class TestNull:
    def judged(self, null, rows=60, level=0.05):
        comparison = compared(np.random.default_rng(0).normal(size=2000), np.random.default_rng(1).normal(0.9, size=rows))
        effects = effect_sizes(comparison, "psi")
        return float(p_values(comparison, "psi", effects, np.array([True]), null, level, 0)[0])

    def test_few_rows_are_permuted_and_many_are_not(self):
        assert self.judged("auto") == self.judged("permutation") != self.judged("analytic")
        assert self.judged("auto", rows=400) == self.judged("analytic", rows=400) != self.judged("permutation", rows=400)

    def test_small_segments_are_not_blind(self):
        """Sixty rows leave six in a bin: pooled, the formula sees less than the shuffles do."""
        assert self.judged("permutation", rows=45) < self.judged("analytic", rows=45)

    def test_what_no_verdict_hangs_on_is_not_permuted(self):
        comparison = replace(compared(np.arange(2000.0), np.arange(60.0) * 33))
        found = p_values(comparison, "psi", effect_sizes(comparison, "psi"), np.array([False]), "permutation", 0.05, 0)
        assert found == chi_square_p_values(*comparison.coarse(), ONE)
