import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from factory_assets.contracts.reports import FeatureReference
from factory_assets.core.drift import (
    MAX_CATEGORIES,
    bin_labels,
    build_reference,
    chi_square_p_value,
    count_bins,
    evaluate_drift,
    population_stability_index,
)

COUNTS = st.lists(st.integers(0, 500), min_size=2, max_size=12)
VALUES = st.lists(st.one_of(st.none(), st.floats(), st.sampled_from([0.0, 1.0])), max_size=60)
TEXTS = st.lists(st.one_of(st.none(), st.text(max_size=2)), max_size=60)


def _judge(reference, current, threshold=0.2, min_rows=200, rate=0.05):
    references = [build_reference(name, reference[name]) for name in reference]
    return evaluate_drift(references, current, threshold, min_rows, rate)


def _normal(rows, seed, shift=0.0):
    return pd.DataFrame({"x": np.random.default_rng(seed).normal(shift, size=rows)})


class TestBins:
    def test_numeric_bins_are_equally_filled_and_open_on_the_left(self):
        reference = build_reference("x", pd.Series(np.arange(1000.0)))
        assert reference.edges == tuple(np.arange(99.0, 999, 100))
        assert reference.counts == (100,) * 10 + (0,)
        assert count_bins(reference, pd.Series([99.0, 99.5])).tolist()[:2] == [1, 1]

    def test_ties_never_straddle_two_bins(self):
        values = pd.Series([0.0] * 700 + list(range(1, 301)))
        reference = build_reference("x", values)
        assert list(reference.edges) == sorted(set(reference.edges))
        assert max(reference.counts) == 700

    def test_a_constant_is_told_from_values_on_either_side(self):
        reference = build_reference("x", pd.Series([5.0] * 300))
        assert reference.counts == (0, 300, 0, 0)
        assert count_bins(reference, pd.Series([4.0, 5.0, 6.0, None])).tolist() == [1, 1, 1, 1]
        for other in (4.0, 6.0):
            report = evaluate_drift([reference], pd.DataFrame({"x": [other] * 300}), 0.2, 200, 0.05)
            assert report.drifted

    @pytest.mark.parametrize("values", [pd.Series([np.nan] * 5), pd.Series([None] * 5, dtype=object)])
    def test_a_feature_that_never_had_a_value_has_one_bin_for_any(self, values):
        reference = build_reference("x", values)
        assert reference.counts == (0, 5)
        assert bin_labels(reference) == ("any value", "missing")
        assert count_bins(reference, pd.Series(["a", None])).tolist() == [1, 1]

    def test_missing_and_infinite_values_have_a_bin_of_their_own(self):
        reference = build_reference("x", pd.Series([1.0, 2.0, np.nan, np.inf, -np.inf]))
        assert reference.counts[-1] == 3

    def test_the_commonest_categories_have_bins_and_the_rest_share_one(self):
        values = pd.Series([f"c{number:02d}" for number in range(40) for _ in range(40 - number)] + [None])
        reference = build_reference("t", values)
        assert reference.categories == tuple(f"c{number:02d}" for number in range(MAX_CATEGORIES))
        assert (reference.counts[0], reference.counts[-2], reference.counts[-1]) == (40, sum(range(1, 11)), 1)
        assert count_bins(reference, pd.Series(["c00", "unseen", None])).tolist()[-2:] == [1, 1]

    def test_equally_common_categories_are_ordered_by_name(self):
        assert build_reference("t", pd.Series(["b", "a", "c", "c"])).categories == ("c", "a", "b")

    @pytest.mark.parametrize("dtype", ["str", object, "string", "category"])
    def test_text_is_counted_alike_in_any_dtype(self, dtype):
        reference = build_reference("t", pd.Series(["a", "b", None]))
        assert count_bins(reference, pd.Series(["a", None, "z"], dtype=dtype)).tolist() == [1, 0, 1, 1]

    @pytest.mark.parametrize("values", [pd.Series([True, False, None], dtype="boolean"), pd.Series([1, 0, None])])
    def test_booleans_are_numbers(self, values):
        reference = build_reference("x", values)
        assert reference.is_numeric
        assert sum(reference.counts) == 3
        assert reference.counts[-1] == 1

    def test_there_is_one_label_a_bin(self):
        for values in (pd.Series([1.0, 2.0, 3.0]), pd.Series(["a", "b"]), pd.Series([1.0, 1.0])):
            reference = build_reference("x", values)
            assert len(bin_labels(reference)) == len(reference.counts)

    def test_numbers_turned_into_text_are_a_broken_contract(self):
        reference = build_reference("x", pd.Series([1.0, 2.0]))
        with pytest.raises(ValueError, match="'x' should be numeric"):
            count_bins(reference, pd.Series(["one"], name="x"))

    @settings(deadline=None, max_examples=100)
    @given(VALUES, VALUES)
    def test_every_number_falls_into_exactly_one_bin(self, before, after):
        reference = build_reference("x", pd.Series(before, dtype="float64"), max_bins=4)
        assert sum(reference.counts) == len(before)
        counts = count_bins(reference, pd.Series(after, dtype="float64"))
        assert (counts.sum(), len(counts)) == (len(after), len(reference.counts))

    @settings(deadline=None, max_examples=100)
    @given(TEXTS, TEXTS)
    def test_every_text_falls_into_exactly_one_bin(self, before, after):
        reference = build_reference("t", pd.Series(before, dtype=object))
        assert sum(reference.counts) == len(before)
        counts = count_bins(reference, pd.Series(after, dtype=object))
        assert (counts.sum(), len(counts)) == (len(after), len(reference.counts))


class TestEffectSize:
    def test_known_value(self):
        expected = 0.1 * math.log(0.6 / 0.5) + 0.1 * math.log(0.5 / 0.4)
        assert population_stability_index(np.array([50, 50]), np.array([60, 40])) == pytest.approx(expected)

    def test_equals_the_symmetric_divergence_of_scipy_where_no_bin_is_empty(self):
        random = np.random.default_rng(0)
        for _ in range(20):
            p, q = random.integers(1, 900, size=(2, 8))
            shares = p / p.sum(), q / q.sum()
            expected = stats.entropy(*shares) + stats.entropy(*shares[::-1])
            assert population_stability_index(p, q) == pytest.approx(expected)

    def test_an_empty_bin_counts_as_half_a_row_and_a_huge_reference_does_not_inflate_it(self):
        assert population_stability_index(np.array([100, 0]), np.array([100, 0])) == 0.0
        half_a_row = 0.5 / 200
        expected = (0.1 - half_a_row) * math.log(0.1 / half_a_row) + 0.1 * math.log(1 / 0.9)
        assert population_stability_index(np.array([90, 10]), np.array([200, 0])) == pytest.approx(expected)
        few_new = [population_stability_index(np.array([rows, 0]), np.array([990, 10])) for rows in (10**5, 10**9)]
        assert few_new[0] == pytest.approx(few_new[1], rel=1e-3)
        assert few_new[1] < 0.1

    @given(COUNTS, COUNTS)
    def test_is_never_negative_and_never_infinite(self, before, after):
        size = min(len(before), len(after))
        value = population_stability_index(np.array(before[:size]), np.array(after[:size]))
        assert 0 <= value < 20

    @given(COUNTS)
    def test_is_zero_for_the_same_counts(self, counts):
        assert population_stability_index(np.array(counts), np.array(counts)) == 0

    @given(COUNTS, st.randoms(use_true_random=False))
    def test_does_not_depend_on_the_order_of_bins(self, counts, random):
        table = np.array([counts, counts[::-1]])
        order = list(range(len(counts)))
        random.shuffle(order)
        before = population_stability_index(*table)
        assert population_stability_index(*table[:, order]) == pytest.approx(before, abs=1e-9)


class TestSignificance:
    def test_is_the_chi_square_test_of_scipy_when_no_bin_is_rare(self):
        random = np.random.default_rng(1)
        for _ in range(20):
            table = random.integers(50, 900, size=(2, 6))
            expected = stats.chi2_contingency(table, correction=False).pvalue
            assert chi_square_p_value(*table) == pytest.approx(expected)

    def test_bins_empty_on_both_sides_change_nothing(self):
        before, after = np.array([300, 200, 100]), np.array([90, 70, 40])
        with_empty = chi_square_p_value(np.append(before, 0), np.append(after, 0))
        assert with_empty == pytest.approx(chi_square_p_value(before, after))

    @pytest.mark.parametrize("counts", [([5, 5], [0, 0]), ([0, 0], [5, 5]), ([9, 0], [4, 0]), ([0, 0], [0, 0])])
    def test_says_nothing_where_there_is_nothing_to_compare(self, counts):
        assert chi_square_p_value(*map(np.array, counts)) == 1.0

    def test_new_values_in_force_are_seen_against_a_huge_reference(self):
        before, after = np.array([*[30_000] * 10, 0]), np.array([*[19] * 10, 10])
        assert chi_square_p_value(before, after) < 1e-6

    @pytest.mark.parametrize("weights", [np.ones(10), 1 / np.arange(1, 32) ** 1.5], ids=["deciles", "long tail"])
    def test_false_alarms_come_at_about_the_promised_rate(self, weights):
        random = np.random.default_rng(2)
        weights = weights / weights.sum()
        draws = zip(random.multinomial(2000, weights, 500), random.multinomial(200, weights, 500), strict=True)
        alarms = np.mean([chi_square_p_value(before, after) < 0.05 for before, after in draws])
        assert alarms < 0.09

    def test_a_single_row_of_a_very_rare_value_is_no_proof(self):
        """Unpooled, a tenth of undrifted windows would be called different here at a level of one in two hundred."""
        random = np.random.default_rng(3)
        weights = np.array([0.1] * 10 + [0.00005] * 8) / 1.0004
        draws = zip(random.multinomial(300_000, weights, 500), random.multinomial(200, weights, 500), strict=True)
        assert np.mean([chi_square_p_value(before, after) < 0.005 for before, after in draws]) < 0.04

    @given(COUNTS, COUNTS)
    def test_is_a_probability(self, before, after):
        size = min(len(before), len(after))
        assert 0 <= chi_square_p_value(np.array(before[:size]), np.array(after[:size])) <= 1


class TestVerdict:
    @pytest.mark.parametrize("seed", range(20))
    def test_a_random_split_of_the_same_rows_does_not_drift(self, seed):
        random = np.random.default_rng(seed)
        frame = pd.DataFrame(random.normal(size=(3000, 10))).rename(columns="f{}".format)
        frame["f0"] = np.round(frame["f0"])
        frame["t"] = random.choice(list("abcdefgh"), size=3000)
        report = _judge(frame.iloc[:2700], frame.iloc[2700:])
        assert report.judged
        assert not report.drifted

    def test_a_shift_of_half_a_deviation_is_found_in_a_thousand_rows(self):
        """Its true PSI is about 0.23, so it scatters around a threshold of 0.2 and clears one of 0.1 for certain."""
        pairs = [(_normal(5000, seed), _normal(1000, seed + 100, shift=0.5)) for seed in range(20)]
        assert all(_judge(*pair, threshold=0.1, rate=1e-9).drifted for pair in pairs)
        assert sum(_judge(*pair).drifted for pair in pairs) >= 15
        assert all(_judge(before, after + 0.25).drifted for before, after in pairs)

    def test_a_feature_gone_missing_is_drift(self):
        current = _normal(500, 1)
        current.loc[::2, "x"] = np.nan
        assert _judge(_normal(5000, 0), current).drifted

    def test_a_new_category_taking_over_is_drift(self):
        reference = pd.DataFrame({"t": ["a", "b"] * 500})
        assert _judge(reference, pd.DataFrame({"t": ["a", "b", "new"] * 100})).drifted

    def test_the_effect_must_be_above_the_threshold_however_significant(self):
        reference, current = _normal(100_000, 0), _normal(50_000, 1, shift=0.1)
        report = _judge(reference, current)
        assert report.features[0].p_adjusted < 1e-9
        assert not report.drifted
        assert _judge(reference, current, threshold=0.005).drifted

    def test_the_effect_must_be_significant_however_large(self):
        reference, current = _normal(500, 0), _normal(60, 3, shift=0.35)
        report = _judge(reference, current, min_rows=50)
        assert report.features[0].psi > 0.2
        assert not _judge(reference, current, min_rows=50, rate=report.features[0].p_adjusted / 2).drifted
        assert _judge(reference, current, min_rows=50, rate=report.features[0].p_adjusted).drifted

    def test_a_small_window_is_not_judged_and_its_numbers_are_shown(self):
        report = _judge(_normal(5000, 0), _normal(199, 1, shift=3))
        assert not report.judged
        assert not report.drifted
        assert not report.features[0].drifted
        assert report.features[0].psi > 0.2
        assert "199 current rows" in report.reason
        assert _judge(_normal(5000, 0), _normal(200, 1, shift=3)).drifted

    def test_no_rows_and_no_features_are_not_judged_or_not_drifted(self):
        nothing = _judge(_normal(500, 0), _normal(0, 1))
        assert not nothing.judged
        assert nothing.features[0].psi == 0.0
        assert nothing.features[0].p_value == 1.0
        assert not evaluate_drift([], _normal(500, 0), 0.2, 200, 0.05).drifted

    def test_p_values_are_adjusted_over_the_features(self):
        reference = pd.DataFrame(np.random.default_rng(0).normal(size=(3000, 12))).rename(columns="f{}".format)
        report = _judge(reference.iloc[:2000], reference.iloc[2000:])
        raw = [feature.p_value for feature in report.features]
        expected = stats.false_discovery_control(raw, method="bh")
        assert [feature.p_adjusted for feature in report.features] == pytest.approx(expected)

    def test_the_reason_names_the_worst_features_with_numbers(self):
        reference = pd.DataFrame(np.random.default_rng(0).normal(size=(3000, 5))).rename(columns="f{}".format)
        current = reference.head(600).add(np.arange(5))
        report = _judge(reference, current)
        assert report.drifted_features == ("f4", "f3", "f2", "f1")
        assert report.reason.startswith("4 of 5 features drifted past PSI 0.2 in 600 current against 3,000 reference")
        assert "f4 (PSI " in report.reason
        assert report.reason.endswith("and 1 more.")

    def test_shares_add_up_and_have_one_label_each(self):
        feature = _judge(_normal(500, 0), _normal(300, 1)).features[0]
        assert sum(feature.reference_share) == pytest.approx(1)
        assert sum(feature.current_share) == pytest.approx(1)
        assert len(feature.bin_labels) == len(feature.reference_share) == len(feature.current_share)

    def test_the_order_of_rows_does_not_matter(self):
        reference, current = _normal(2000, 0), _normal(400, 1, shift=0.2)
        assert _judge(reference, current) == _judge(reference.iloc[::-1], current.sample(frac=1, random_state=0))

    def test_an_absent_column_is_a_broken_contract(self):
        with pytest.raises(ValueError, match=r"\['x'\].*broken contract"):
            _judge(_normal(500, 0), pd.DataFrame({"y": [1.0]}))

    @settings(deadline=None, max_examples=60)
    @given(VALUES, VALUES)
    def test_any_numbers_give_finite_figures(self, before, after):
        reference = build_reference("x", pd.Series(before, dtype="float64"))
        report = evaluate_drift([reference], pd.DataFrame({"x": pd.Series(after, dtype="float64")}), 0.2, 50, 0.05)
        feature = report.features[0]
        assert math.isfinite(feature.psi)
        assert math.isfinite(feature.p_adjusted)
        assert not report.drifted or report.judged

    def test_a_reference_is_plain_data(self):
        reference = build_reference("x", pd.Series([1, 2, 2, None]))
        assert reference == FeatureReference("x", reference.edges, (), tuple(int(n) for n in reference.counts))
        assert all(type(n) is int for n in reference.counts)
        assert all(type(e) is float for e in reference.edges)
