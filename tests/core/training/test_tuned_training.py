"""Search, weights and own estimators through the whole fit of a line."""

import pickle
import sys
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from factory_assets.contracts.estimators import allow_estimators, extra_estimators, find_estimator, read_extra_estimators
from factory_assets.core.models.estimators import EstimatorImportError, build_estimator
from factory_assets.core.training.fit import LABEL, fit_and_evaluate
from factory_assets.core.training.time_split import cut_by_time
from tests.core.conftest import NOW

DEPTHS = {"max_depth": [1, 3], "max_iter": [5, 20]}


@pytest.fixture
def split(build_frame):
    return cut_by_time(pa.Table.from_pandas(build_frame()), "departs_utc", timedelta(days=14), None, NOW, timedelta(0))


@pytest.fixture
def train(build_spec, split):
    def fit(**changes):
        return fit_and_evaluate(build_spec(params={"max_iter": 3}, **changes), changes.pop("split", split))

    return fit


def test_the_winner_of_the_search_is_what_is_fitted(train) -> None:
    found = train(search={"space": DEPTHS})
    assert found.search.params
    fitted = found.model.named_steps["model"].get_params()
    assert {name: fitted[name] for name in found.search.params} == found.search.params
    assert found.search.trials[found.search.winner].value > found.search.trials[0].value
    assert train().search is None


def test_each_key_of_the_search_changes_the_trials(train) -> None:
    base = {"space": {"learning_rate": {"low": 0.01, "high": 1.0, "log": True}}, "budget": 4, "folds": 2}

    def trials(**changes):
        return [(dict(t.params), t.values) for t in train(search={**base, **changes}).search.trials]

    first = trials()
    assert (len(first), {len(values) for _, values in first}) == (4, {2})
    assert trials() == first
    assert len(trials(budget=5)) == 5
    assert {len(values) for _, values in trials(folds=3)} == {3}
    assert trials(space={"learning_rate": {"low": 0.01, "high": 1.0}}) != first
    assert trials(space={"learning_rate": {"low": 0.1, "high": 1.0, "log": True}}) != first
    assert trials(space={"learning_rate": {"low": 0.01, "high": 0.1, "log": True}}) != first


def test_the_search_never_sees_the_holdout(build_spec, split) -> None:
    spec = build_spec(search={"space": DEPTHS})
    holdout = split.holdout.to_pandas()
    turned = pa.Table.from_pandas(holdout.assign(**{LABEL: ~holdout[LABEL]}))
    other = fit_and_evaluate(spec, replace(split, holdout=turned))
    assert other.search == fit_and_evaluate(spec, split).search


def test_a_searched_model_does_not_depend_on_the_order_of_rows(build_spec, split) -> None:
    spec = build_spec(search={"space": DEPTHS})
    shuffled = replace(
        split, train=pa.Table.from_pandas(split.train.to_pandas().sample(frac=1, random_state=3), preserve_index=False)
    )
    one, other = fit_and_evaluate(spec, split), fit_and_evaluate(spec, shuffled)
    assert pickle.dumps(one.model) == pickle.dumps(other.model)
    assert one.search == other.search


def test_a_misspelt_parameter_of_the_space_is_an_error_and_a_bad_value_a_failed_trial(train) -> None:
    with pytest.raises(ValueError, match=r"'max_depht'.*max_depth"):
        train(search={"space": {"max_depht": [1, 2]}})
    report = train(search={"space": {"max_depth": [-4, 2]}}).search
    assert "max_depth" in report.trials[1].error
    assert report.winner != 1


def test_a_search_on_early_rows_of_one_class_leaves_those_folds_out(build_spec, split) -> None:
    rows = split.train.to_pandas().sort_values("departs_utc")
    early = rows.assign(**{LABEL: rows[LABEL].where(np.arange(len(rows)) > len(rows) * 0.4, False)})
    spec = build_spec(estimator="sklearn.linear_model.LogisticRegression", search={"space": {"C": [0.01, 10.0]}})
    report = fit_and_evaluate(spec, replace(split, train=pa.Table.from_pandas(early, preserve_index=False))).search
    assert [len(trial.values) for trial in report.trials] == [2, 2, 2]


def test_old_rows_weigh_less_by_their_half_life(build_spec, split) -> None:
    """The label turned over half-way: with a short half-life the model believes the newer half."""
    rows = split.train.to_pandas().sort_values("departs_utc")
    turned = rows.assign(**{LABEL: rows[LABEL] ^ (np.arange(len(rows)) < len(rows) * 0.7)})
    drifted = replace(split, train=pa.Table.from_pandas(turned, preserve_index=False))
    for estimator in ("sklearn.linear_model.LogisticRegression", "sklearn.ensemble.HistGradientBoostingClassifier"):
        values = {}
        for half_life in (None, "1000d", "7d"):
            weight = {"half_life": half_life} if half_life else None
            spec = build_spec(estimator=estimator, sample_weight=weight)
            values[half_life] = fit_and_evaluate(spec, drifted).evaluation.scores["roc_auc"]
        assert values["7d"] > 0.7
        assert max(values["1000d"], values[None]) < 0.5


def test_the_search_weighs_as_the_fit_does(train) -> None:
    search = {"space": {"max_depth": [1, 3]}}
    assert train(search=search).search != train(search=search, sample_weight={"half_life": "7d"}).search


def test_an_estimator_that_cannot_weigh_rows_is_refused(build_spec, split) -> None:
    spec = build_spec(estimator="sklearn.neighbors.KNeighborsClassifier", sample_weight={"half_life": "7d"})
    with pytest.raises(ValueError, match="KNeighborsClassifier cannot weigh rows"):
        fit_and_evaluate(spec, split)


# --- A user's own package ---

PACKAGE = '''
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder


class ShareOfLate(ClassifierMixin, BaseEstimator):
    """One probability for everybody."""

    def __init__(self, shift=0.0):
        self.shift = shift

    def fit(self, X, y, sample_weight=None):
        self.classes_ = np.unique(y)
        self.share_ = np.average(y, weights=sample_weight) + self.shift
        return self

    def predict_proba(self, X):
        return np.tile([1 - self.share_, self.share_], (len(X), 1))


def build_forest(depth=2):
    """A whole pipeline, from the raw frame on."""
    columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["carrier"]), ("drop", []))
    return make_pipeline(columns, RandomForestClassifier(n_estimators=5, max_depth=depth))
'''


@pytest.fixture
def own_package(tmp_path, monkeypatch):
    (tmp_path / "own_models.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = extra_estimators()
    allow_estimators(
        read_extra_estimators("own_models.ShareOfLate:classification,own_models.build_forest:classification:raw")
    )
    yield
    allow_estimators(before)
    sys.modules.pop("own_models", None)


@pytest.mark.usefixtures("own_package")
def test_a_users_estimator_gets_encoded_columns_and_its_own_parameters(build_spec, split) -> None:
    spec = build_spec(estimator="own_models.ShareOfLate", params={"shift": 0.1}, sample_weight={"half_life": "7d"})
    trained = fit_and_evaluate(spec, split)
    assert trained.exam_scores.shape == (0,)
    assert len(set(trained.holdout_scores)) == 1
    shifted = fit_and_evaluate(spec.model_copy(update={"params": {"shift": 0.2}}), split)
    assert shifted.holdout_scores[0] == pytest.approx(trained.holdout_scores[0] + 0.1)


@pytest.mark.usefixtures("own_package")
def test_a_users_pipeline_takes_the_raw_columns_is_seeded_weighted_and_searched(build_spec, split) -> None:
    spec = build_spec(estimator="own_models.build_forest", search={"space": {"depth": [1, 6]}})
    trained = fit_and_evaluate(spec, split)
    assert trained.evaluation.scores["roc_auc"] > 0.6
    assert trained.model.named_steps["model"].random_state == 0
    assert pickle.dumps(trained.model) == pickle.dumps(fit_and_evaluate(spec, split).model)
    assert [dict(trial.params) for trial in trained.search.trials] == [{}, {"depth": 1}, {"depth": 6}]
    weighted = fit_and_evaluate(build_spec(estimator=spec.estimator, sample_weight={"half_life": "1d"}), split)
    plain = fit_and_evaluate(build_spec(estimator=spec.estimator), split)
    assert weighted.evaluation.scores != plain.evaluation.scores


@pytest.mark.usefixtures("own_package")
def test_what_the_setting_names_is_allowed_and_nothing_beside_it(build_spec) -> None:
    assert build_spec(estimator="own_models.ShareOfLate").task == "classification"
    with pytest.raises(ValueError, match="FACTORY_EXTRA_ESTIMATORS"):
        build_spec(estimator="own_models.BaseEstimator")
    with pytest.raises(ValueError, match=r"'depht'.*depth"):
        build_estimator("own_models.build_forest", {"depht": 1}, ["x"], [], 0)


def test_an_allowed_path_that_leads_nowhere_says_what_to_do() -> None:
    before = extra_estimators()
    allow_estimators(read_extra_estimators("no_such_package.Model:regression"))
    try:
        with pytest.raises(EstimatorImportError, match="install its package"):
            build_estimator("no_such_package.Model", {}, ["x"], [], 0)
    finally:
        allow_estimators(before)


@pytest.mark.parametrize(
    "text", ["Model:regression", "a.b", "a.b:ranking", "a.b:regression:sparse", "a.b:regression:raw:x", "a-b.c:regression",
             "sklearn.linear_model.Ridge:classification"],
)  # fmt: skip
def test_an_entry_that_is_no_estimator_is_refused(text) -> None:
    with pytest.raises(ValueError, match=r"is not an estimator|is on the list already"):
        read_extra_estimators(text)


def test_every_built_in_has_columns_that_fit_its_kin() -> None:
    assert find_estimator("sklearn.linear_model.Ridge").columns == "scaled"
    assert find_estimator("sklearn.ensemble.HistGradientBoostingRegressor").columns == "native"
    frame = pd.DataFrame({"t": ["a", "b"] * 10})
    for path in ("sklearn.naive_bayes.GaussianNB", "sklearn.neural_network.MLPClassifier"):
        assert build_estimator(path, {}, [], ["t"], 0).fit(frame, [0, 1] * 10).predict(frame).shape == (20,)
