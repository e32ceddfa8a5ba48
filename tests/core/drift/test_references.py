import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory_assets.core.drift import build_reference, build_score_profile, numeric_references
from factory_assets.core.drift.references import MAX_CATEGORIES, cells_of, coarse_cells, design_effects

VALUES = st.lists(st.one_of(st.none(), st.floats(), st.sampled_from([0.0, 1.0])), max_size=60)
TEXTS = st.lists(st.one_of(st.none(), st.text(max_size=2)), max_size=60)


def coarse_counts(values):
    """The ten bins of the rows themselves, the one for values never seen between them included."""
    reference = build_reference("x", pd.Series(values))
    return np.bincount(coarse_cells(np.array(reference.counts[:-2])), reference.counts[:-1]).astype(int).tolist()


def counted(reference, values):
    return np.bincount(cells_of(reference, values), minlength=len(reference.counts)).tolist()


def test_the_ten_bins_are_equally_filled_and_open_on_the_left():
    values = np.arange(1000.0)
    assert coarse_counts(values) == [100] * 10
    reference = build_reference("x", pd.Series(values))
    bins = coarse_cells(np.array(reference.counts[:-2]))
    assert [bins[cell] for cell in cells_of(reference, pd.Series([99.0, 99.5, 5000.0]))] == [0, 1, 9]


@settings(max_examples=100)
@given(st.lists(st.integers(-5, 5) | st.floats(-1e6, 1e6), min_size=1, max_size=300))
def test_the_ten_bins_are_those_of_ten_quantiles_cut_directly(values):
    present = np.sort(np.array(values, dtype=np.float64))
    cuts = np.unique(np.quantile(present, np.arange(1, 10) / 10, method="inverted_cdf"))
    if cuts[0] == present[0]:
        cuts = np.r_[np.nextafter(present[0], -np.inf), cuts]
    direct = np.bincount(np.searchsorted(cuts, present), minlength=len(cuts) + 1)
    assert [n for n in coarse_counts(values) if n] == [n for n in direct.tolist() if n]


def test_ties_never_straddle_two_cells():
    reference = build_reference("x", pd.Series([0.0] * 700 + list(range(1, 301))))
    assert list(reference.edges) == sorted(set(reference.edges))
    assert max(reference.counts) == 700


def test_a_constant_is_told_from_values_on_either_side():
    reference = build_reference("x", pd.Series([5.0] * 300))
    assert reference.counts == (0, 300, 0, 0)
    cells = cells_of(reference, pd.Series([4.0, 5.0, 6.0, None]))
    assert len(set(cells)) == 4
    assert len(set(coarse_cells(np.array(reference.counts[:-2]))[cells[:3]])) == 3


@pytest.mark.parametrize("values", [pd.Series([np.nan] * 5), pd.Series([np.inf] * 5), pd.Series([None] * 5, dtype=object)])
def test_a_feature_that_never_had_a_value_has_one_cell_for_any(values):
    reference = build_reference("x", values)
    assert reference.counts == (0, 5)
    assert counted(reference, pd.Series(["a", None])) == [1, 1]


def test_missing_and_infinite_values_have_a_cell_of_their_own():
    reference = build_reference("x", pd.Series([1.0, 2.0, np.nan, np.inf, -np.inf]))
    assert reference.counts[-1] == 3


def test_the_commonest_categories_have_cells_and_the_rest_share_one():
    values = pd.Series([f"c{number:02d}" for number in range(40) for _ in range(40 - number)] + [None])
    reference = build_reference("t", values)
    assert reference.categories == tuple(f"c{number:02d}" for number in range(MAX_CATEGORIES))
    assert (reference.counts[0], reference.counts[-2], reference.counts[-1]) == (40, sum(range(1, 11)), 1)
    assert counted(reference, pd.Series(["c00", "unseen", None]))[-2:] == [1, 1]


def test_equally_common_categories_are_ordered_by_name():
    assert build_reference("t", pd.Series(["b", "a", "c", "c"])).categories == ("c", "a", "b")


@pytest.mark.parametrize("dtype", ["str", object, "string", "category"])
def test_text_is_counted_alike_in_any_dtype(dtype):
    reference = build_reference("t", pd.Series(["a", "b", None]))
    assert counted(reference, pd.Series(["a", None, "z"], dtype=dtype)) == [1, 0, 1, 1]


@pytest.mark.parametrize("values", [pd.Series([True, False, None], dtype="boolean"), pd.Series([1, 0, None])])
def test_booleans_are_numbers(values):
    reference = build_reference("x", values)
    assert reference.is_numeric
    assert reference.counts[-1] == 1


def test_numbers_turned_into_text_are_a_broken_contract():
    reference = build_reference("x", pd.Series([1.0, 2.0]))
    with pytest.raises(ValueError, match="'x' should be numeric"):
        cells_of(reference, pd.Series(["one"], name="x"))


@settings(max_examples=100)
@given(VALUES, VALUES)
def test_every_number_falls_into_exactly_one_cell(before, after):
    reference = build_reference("x", pd.Series(before, dtype="float64"))
    assert sum(reference.counts) == len(before)
    assert counted(reference, pd.Series(before, dtype="float64")) == list(reference.counts)
    assert len(counted(reference, pd.Series(after, dtype="float64"))) == len(reference.counts)


@settings(max_examples=100)
@given(TEXTS, TEXTS)
def test_every_text_falls_into_exactly_one_cell(before, after):
    reference = build_reference("t", pd.Series(before, dtype=object))
    assert counted(reference, pd.Series(before, dtype=object)) == list(reference.counts)
    assert len(counted(reference, pd.Series(after, dtype=object))) == len(reference.counts)


def test_more_rows_are_kept_in_finer_cells_and_never_in_many_more_than_two_hundred():
    cells = [len(build_reference("x", pd.Series(np.arange(float(rows)))).counts) for rows in (100, 1000, 10_000, 100_000)]
    assert cells == sorted(cells)
    # Two hundred, the smallest value, both ends halved eight times, above all edges, missing.
    assert cells[-1] == 200 + 1 + 2 * 8 + 2


def test_a_feature_of_few_values_is_known_to_be_discrete():
    assert build_reference("x", pd.Series([1.0, 2.0, 2.0, 7.0] * 50)).discrete
    assert not build_reference("x", pd.Series(np.arange(1000.0))).discrete


@pytest.mark.parametrize("rows", [0, 1, 40, 900])
def test_features_together_are_referenced_as_each_by_itself(rows):
    random = np.random.default_rng(0)
    numbers = random.normal(size=(rows, 5))
    numbers[:, 1], numbers[:, 2] = numbers[:, 1].round(), 3.0
    numbers[::7, 3] = numbers[:, 4] = np.nan
    days = random.integers(0, 40, rows)
    together = numeric_references(list("abcde"), numbers, days)
    assert together == [build_reference(name, pd.Series(numbers[:, place]), days) for place, name in enumerate("abcde")]


class TestDesignEffect:
    def test_independent_rows_count_in_full(self):
        random = np.random.default_rng(0)
        effects = design_effects(random.integers(0, 10, (12_000, 20)), random.integers(0, 120, 12_000))
        assert effects.mean() < 1.15
        assert effects.min() >= 1

    def test_rows_of_a_day_that_share_its_value_count_as_one(self):
        random = np.random.default_rng(0)
        days = np.repeat(np.arange(120), 50)
        cells = random.integers(0, 10, 120)[days][:, None]
        assert 25 < design_effects(cells, days)[0] < 75

    def test_days_that_resemble_their_neighbours_count_for_less_still(self):
        days = np.repeat(np.arange(120), 50)
        weather = np.repeat(np.random.default_rng(0).integers(0, 10, 30), 4)
        one_day, four_days = design_effects(
            np.column_stack([np.random.default_rng(1).permutation(weather), weather])[days], days
        )
        assert four_days > 1.5 * one_day

    def test_too_few_days_say_nothing(self):
        days = np.repeat(np.arange(5), 50)
        assert design_effects(days[:, None], days).tolist() == [1.0]


class TestScoreProfile:
    def test_holds_mean_label_and_errors_by_range_of_the_score(self):
        scores = np.repeat([0.1, 0.9], 100)
        labels = np.r_[np.repeat([0.0, 1.0], [90, 10]), np.repeat([0.0, 1.0], [20, 80])]
        profile = build_score_profile(scores, labels)
        assert profile.cuts == (0.1,)
        assert profile.rows == (100, 100)
        assert profile.mean_label == pytest.approx((0.1, 0.8))
        assert profile.mean_absolute_error == pytest.approx((0.18, 0.26))
        assert profile.mean_squared_error == pytest.approx((0.09, 0.17), abs=1e-2)

    def test_of_nothing_is_nothing(self):
        assert build_score_profile(np.array([]), np.array([])).rows == ()
