import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from factory_assets.contracts.tuning import RangeSpec, SearchSpec
from factory_assets.core.training.search import cut_folds, draw_candidates, search_params
from factory_assets.core.training.weights import recency_weights

CUT = datetime(2013, 7, 1, tzinfo=UTC)
whole = st.integers(-50, 50)
ranges = st.one_of(
    st.builds(lambda low, size: RangeSpec(low=low, high=low + size), whole, st.integers(1, 50)),
    st.builds(lambda low, size: RangeSpec(low=float(low), high=low + size), whole, st.floats(0.01, 50)),
    st.builds(lambda low, size: RangeSpec(low=low, high=low * size, log=True), st.integers(1, 9), st.integers(2, 9)),
    st.builds(lambda low, size: RangeSpec(low=low, high=low * size, log=True), st.floats(1e-6, 9), st.floats(1.1, 1e4)),
)
choices = st.lists(st.one_of(st.booleans(), whole, st.none(), st.text(max_size=3)), min_size=1, max_size=6, unique_by=repr)
spaces = st.dictionaries(st.sampled_from("abcde"), st.one_of(choices.map(tuple), ranges), min_size=1, max_size=4)


@given(spaces, st.integers(2, 40), st.integers(0, 2**32))
def test_candidates_lie_in_the_space_within_the_budget_and_come_once(space, budget, seed) -> None:
    search = SearchSpec(space=space, budget=budget)
    candidates = draw_candidates(search, seed)
    assert candidates == draw_candidates(search, seed)
    assert candidates[0] == {}
    assert 2 <= len(candidates) <= budget
    assert len(set(map(repr, candidates))) == len(candidates)
    for candidate in candidates[1:]:
        assert set(candidate) == set(space)
        for name, value in candidate.items():
            declared = search.space[name]
            if isinstance(declared, RangeSpec):
                assert declared.low <= value <= declared.high
                assert isinstance(value, int) == declared.is_whole
            else:
                assert value in declared


def test_a_small_space_is_tried_as_a_whole_in_its_order() -> None:
    search = SearchSpec(space={"depth": (2, 4), "leaf": (1, None)}, budget=5)
    assert [tuple(candidate.values()) for candidate in draw_candidates(search, 0)[1:]] == [
        (2, 1),
        (2, None),
        (4, 1),
        (4, None),
    ]
    assert len(draw_candidates(search.model_copy(update={"budget": 4}), 0)) == 4


def test_the_seed_draws_other_candidates() -> None:
    search = SearchSpec(space={"C": RangeSpec(low=0.001, high=1000, log=True)}, budget=6)
    assert draw_candidates(search, 1) != draw_candidates(search, 2)


def test_log_draws_every_magnitude_alike_and_plain_draws_mostly_the_largest() -> None:
    for log, share in ((True, 0.5), (False, 0.001)):
        search = SearchSpec(space={"C": RangeSpec(low=0.001, high=1000.0, log=log)}, budget=1000)
        below_one = np.mean([candidate["C"] < 1 for candidate in draw_candidates(search, 0)[1:]])
        assert below_one == pytest.approx(share, abs=0.05)


@given(st.lists(st.integers(0, 30), max_size=60), st.integers(1, 8))
def test_a_fold_is_judged_on_rows_that_are_later_than_all_it_was_fitted_on(times, count) -> None:
    moments = np.sort(np.array(times, dtype=np.int64))
    judged: list[int] = []
    for older, later in cut_folds(moments, count):
        assert len(older)
        assert len(later)
        assert moments[older].max() < moments[later].min()
        assert older.tolist() == list(range(later[0]))
        judged += later.tolist()
    assert judged == list(range(judged[0], len(times))) if judged else len(set(times)) <= 1


def test_three_folds_of_eight_rows() -> None:
    folds = [(older.tolist(), later.tolist()) for older, later in cut_folds(np.arange(8), 3)]
    assert folds == [([0, 1], [2, 3]), ([0, 1, 2, 3], [4, 5]), ([0, 1, 2, 3, 4, 5], [6, 7])]


FOLDS = list(cut_folds(np.arange(8), 2))


def search(values, higher=True):
    """Trials whose value is looked up by the parameter and the fold's first judged row."""
    candidates = [{}, *({"a": name} for name in values if name is not None)]

    def judge(params, fold):
        found = values.get(params.get("a"), 0.5)
        if isinstance(found, Exception):
            raise found
        return found[len(fold[0]) // 4] if isinstance(found, tuple) else found

    return search_params(candidates, FOLDS, judge, "auc", higher)


def test_the_best_mean_over_the_folds_wins_in_the_direction_of_the_metric() -> None:
    values = {"even": 0.6, "mixed": (0.1, 0.9), "best": (0.9, 0.7)}
    assert search(values).params == {"a": "best"}
    assert search(values, higher=False).params == {}
    assert [trial.value for trial in search(values).trials] == [0.5, 0.6, 0.5, 0.8]


def test_of_equals_the_lines_own_parameters_stand() -> None:
    assert search({"same": 0.5}).params == {}


def test_an_undefined_fold_counts_for_nobody_and_a_failed_candidate_cannot_win() -> None:
    report = search({None: (math.nan, 0.5), "good": (math.nan, 0.7), "bad": ValueError("max_depth\nmust be positive")})
    assert report.params == {"a": "good"}
    assert report.trials[1].value == 0.7
    assert report.trials[2].error == "ValueError: max_depth"
    assert math.isnan(report.trials[2].value)


def test_without_any_value_the_lines_own_parameters_stand() -> None:
    assert search({None: math.nan, "a": math.nan}).params == {}


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({}, "at least 1"),
        ({"C": []}, "is empty"),
        ({"C": [1, 1]}, "says a value twice"),
        ({"C": {"low": 2, "high": 1}}, "must be below high"),
        ({"C": {"low": 0, "high": 1, "log": True}}, "must be above 0"),
        ({"C": {"low": 0, "high": 1, "step": 1}}, "step"),
    ],
)
def test_a_space_that_holds_nothing_is_refused(space, said) -> None:
    with pytest.raises(ValidationError, match=said):
        SearchSpec.model_validate({"space": space})


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=50), st.integers(1, 1000))
def test_weights_halve_with_every_half_life_and_never_vanish(hours, half_life_hours) -> None:
    moments = pd.Series(pd.to_datetime([CUT - timedelta(hours=h) for h in hours], utc=True, format="ISO8601"))
    half_life = timedelta(hours=half_life_hours)
    weights = recency_weights(moments, CUT, half_life)
    older = recency_weights(moments - half_life, CUT, half_life)
    assert ((weights > 0) & (weights <= 1)).all()
    plain = older > 1e-37
    np.testing.assert_allclose(older[plain], weights[plain] / 2)
    assert (np.diff(weights[np.argsort(hours)]) <= 0).all()
