import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from factory_assets.contracts.estimators import BUILT_IN
from factory_assets.core.models import estimators
from factory_assets.core.models.estimators import build_baseline, build_estimator, fit_pipeline
from factory_assets.core.training.fit import fill_empty_columns

NUMERIC, CATEGORICAL = ["delay", "unknown"], ["carrier", "tail"]
SMALL = {
    "RandomForest": {"n_estimators": 5},
    "ExtraTrees": {"n_estimators": 5},
    "HistGradient": {"max_iter": 5},
    "GradientBoosting": {"n_estimators": 5},
    "neural_network": {"max_iter": 300, "hidden_layer_sizes": 4, "tol": 1e-2},
}


@pytest.fixture
def frame():
    random = np.random.default_rng(0)
    tails = [f"N{number}" for number in range(300)]
    carriers = pd.Series(random.choice(["AA", "B6", "DL"], size=600))
    return pd.DataFrame(
        {
            "delay": np.where(random.uniform(size=600) < 0.1, np.nan, random.normal(size=600)),
            "unknown": np.nan,
            "carrier": carriers.where(random.uniform(size=600) > 0.1),
            "tail": random.choice(tails, size=600),
        }
    )


def _fit(path, frame, seed=0):
    params = next((params for name, params in SMALL.items() if name in path), {})
    signal = frame["delay"].fillna(0) + (frame["carrier"] == "AA") + 2 * frame["carrier"].isna()
    labels = (signal > 0.5).astype(int)
    model = build_estimator(path, params, NUMERIC, CATEGORICAL, seed)
    return model.fit(fill_empty_columns(frame, NUMERIC), labels)


@pytest.mark.parametrize("path", BUILT_IN)
def test_every_allowed_estimator_takes_raw_columns_by_name(path, frame):
    model = _fit(path, frame)
    scored = frame.assign(extra="ignored")[["tail", "extra", "unknown", "carrier", "delay"]]
    np.testing.assert_array_equal(model.predict(scored), model.predict(frame))


@pytest.mark.parametrize("path", BUILT_IN)
def test_unseen_categories_and_empty_columns_at_scoring_do_no_harm(path, frame):
    unseen = pd.DataFrame({"delay": [np.nan], "unknown": [3.0], "carrier": ["ZZ"], "tail": [None]})
    assert np.isfinite(_fit(path, frame).predict(unseen).astype(float)).all()


@pytest.mark.parametrize("path", BUILT_IN)
def test_none_and_nan_mean_the_same_missing_category(path, frame):
    model = _fit(path, frame)
    as_none = frame.assign(carrier=frame["carrier"].astype(object).where(frame["carrier"].notna(), None))
    assert as_none["carrier"].map(lambda value: value is None).any()
    for fitted in (model, _fit(path, as_none)):
        np.testing.assert_array_equal(fitted.predict(as_none), model.predict(frame))
        np.testing.assert_array_equal(fitted.predict(frame), model.predict(frame))


@pytest.mark.parametrize("path", BUILT_IN)
def test_the_same_fit_twice_gives_the_same_bytes(path, frame):
    assert pickle.dumps(_fit(path, frame), 5) == pickle.dumps(_fit(path, frame.copy()), 5)


def test_the_seed_reaches_the_estimator(frame):
    path = "sklearn.ensemble.ExtraTreesClassifier"
    assert pickle.dumps(_fit(path, frame, seed=1)) != pickle.dumps(_fit(path, frame, seed=2))


def test_a_parameter_changes_the_estimator(frame):
    path = "sklearn.ensemble.HistGradientBoostingClassifier"
    model = build_estimator(path, {"max_iter": 7, "learning_rate": 0.3}, NUMERIC, CATEGORICAL, 0)
    assert (model.named_steps["model"].max_iter, model.named_steps["model"].learning_rate) == (7, 0.3)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("depth", "did you mean 'max_depth'?"),
        ("zzz", "there are .*learning_rate, "),
        ("random_state", "the factory sets it"),
        ("categorical_features", "the factory sets it"),
    ],
)
def test_a_parameter_that_cannot_be_set_is_refused_with_what_can(name, remedy):
    with pytest.raises(ValueError, match=rf"has no parameter '{name}' to set here: {remedy}"):
        build_estimator("sklearn.ensemble.HistGradientBoostingClassifier", {name: 3}, ["x"], [], 0)


def test_an_estimator_off_the_list_is_not_imported():
    with pytest.raises(ValueError, match="allow-list"):
        build_estimator("os.system", {}, ["x"], [], 0)


def test_a_model_without_features_is_refused():
    with pytest.raises(ValueError, match="at least one feature"):
        build_estimator("sklearn.linear_model.Ridge", {}, [], [], 0)


@pytest.mark.parametrize("max_bins", [None, 16])
def test_more_categories_than_histogram_bins_are_grouped(max_bins):
    frame = pd.DataFrame({"tail": [f"N{number % 400}" for number in range(2000)]})
    params = {"max_iter": 3} | ({"max_bins": max_bins} if max_bins else {})
    model = build_estimator("sklearn.ensemble.HistGradientBoostingRegressor", params, [], ["tail"], 0)
    assert np.isfinite(model.fit(frame, np.arange(2000.0)).predict(frame)).all()


def test_categories_carry_their_signal():
    frame = pd.DataFrame({"carrier": ["AA", "B6"] * 200})
    labels = np.array([1, 0] * 200)
    for path in ("sklearn.ensemble.HistGradientBoostingClassifier", "sklearn.linear_model.LogisticRegression"):
        assert build_estimator(path, {}, [], ["carrier"], 0).fit(frame, labels).score(frame, labels) == 1.0


def test_the_baseline_fits_the_task(frame):
    labels = (frame["delay"].fillna(0) > 0).astype(int).to_numpy()
    for task in ("classification", "regression"):
        assert build_baseline(task, NUMERIC, CATEGORICAL, 0).fit(frame, labels).predict(frame).shape == (600,)


def test_a_stored_model_is_read_without_this_package(frame, tmp_path):
    stored = tmp_path / "model.pickle"
    stored.write_bytes(pickle.dumps(_fit("sklearn.ensemble.HistGradientBoostingClassifier", frame)))
    script = (
        "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))\n"
        "assert not [m for m in sys.modules if m.startswith('factory_assets')]"
    )
    subprocess.run([sys.executable, "-I", "-c", script, str(stored)], check=True)


@pytest.mark.parametrize("path", ["sklearn.linear_model.LogisticRegression", "sklearn.ensemble.RandomForestClassifier"])
@pytest.mark.parametrize("rows", [599, 600])
def test_many_rows_are_fitted_to_the_same_bytes(frame, path, rows, monkeypatch):
    numbers = frame[["delay", "unknown"]].assign(whole=np.arange(600) % 7.0)[:rows]
    labels, weights = (numbers["whole"] > 3).astype(int).to_numpy(), np.linspace(0.5, 1, rows)
    params = {"n_estimators": 5} if "Forest" in path else {}

    def fit():
        unfitted = build_estimator(path, params, list(numbers), [], 0)
        return pickle.dumps(fit_pipeline(unfitted, numbers, labels, weights))

    together = fit()
    monkeypatch.setattr(estimators, "MANY_ROWS", 0)
    assert fit() == together
