import warnings

import numpy as np
import pandas as pd
import pytest

from factory_assets.contracts.estimators import BUILT_IN
from factory_assets.core.models.estimators import build_estimator, fit_pipeline
from factory_assets.core.models.prediction import predict_scores

CLASSIFIERS = [path for path, task in BUILT_IN.items() if task == "classification"]

# These raise at the fit when there is one class, and the training says so before.
REFUSING = ("LogisticRegression", ".GradientBoostingClassifier")


@pytest.fixture
def frame():
    return pd.DataFrame({"x": np.linspace(-1, 1, 100), "t": ["a", "b"] * 50})


def _fit(path, frame, labels):
    return build_estimator(path, {}, ["x"], ["t"], 0).fit(frame, labels)


@pytest.mark.parametrize("path", CLASSIFIERS)
def test_a_classifier_gives_the_probability_of_the_positive_class(path, frame):
    labels = (frame["x"] > 0).astype(float)
    scores = predict_scores(_fit(path, frame, labels), frame, ["x"], ["t"], "classification")
    assert scores.dtype == np.float64
    assert scores.shape == (100,)
    assert scores[-1] > 0.5 > scores[0]


@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("path", [path for path in CLASSIFIERS if not path.endswith(REFUSING)])
def test_a_classifier_that_saw_one_class_is_certain_of_it(path, label, frame):
    model = _fit(path, frame, np.full(100, label))
    assert predict_scores(model, frame, ["x"], ["t"], "classification").tolist() == [label] * 100


def test_a_regressor_gives_its_values(frame):
    model = _fit("sklearn.linear_model.Ridge", frame, frame["x"] * 10)
    scores = predict_scores(model, frame, ["x"], ["t"], "regression")
    assert scores.shape == (100,)
    assert scores[-1] > 9


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_no_rows_give_no_scores(task, frame):
    scores = predict_scores("a model is not asked", frame.head(0), ["x"], ["t"], task)
    assert scores.shape == (0,)
    assert scores.dtype == np.float64


def test_scores_follow_the_rows_whatever_their_dtypes(frame):
    model = _fit("sklearn.ensemble.HistGradientBoostingClassifier", frame, (frame["x"] > 0).astype(float))
    expected = predict_scores(model, frame, ["x"], ["t"], "classification")
    shuffled = frame.astype({"x": "Float64", "t": "category"}).iloc[::-1]
    np.testing.assert_array_equal(predict_scores(model, shuffled, ["x"], ["t"], "classification"), expected[::-1])


@pytest.mark.parametrize("path", CLASSIFIERS)
def test_columns_in_any_order_and_beside_others_give_the_scores_of_the_pipeline_itself(path, frame):
    frame = frame.assign(z=np.linspace(3, 1, 100) ** 2)
    model = build_estimator(path, {}, ["x", "z"], [], 0).fit(frame[["x", "z"]], (frame["x"] > 0).astype(float))
    expected = model.predict_proba(frame)[:, 1]
    assert (predict_scores(model, frame[["t", "z", "x"]], ["x", "z"], [], "classification") == expected).all()
    assert (predict_scores(model, frame, ["z", "x"], [], "classification") == expected).all()


@pytest.mark.parametrize("name", ["HistGradientBoostingClassifier", "LogisticRegression", "RandomForestClassifier"])
def test_a_model_of_numbers_alone_is_fitted_on_their_values_and_still_takes_columns_by_name(name):
    path = next(path for path in CLASSIFIERS if path.endswith(name))
    random = np.random.default_rng(0)
    rows = pd.DataFrame(random.normal(size=(60, 2)), columns=["x", "y"])
    model = fit_pipeline(build_estimator(path, {}, ["x", "y"], [], 0), rows, (rows["x"] > 0).to_numpy(dtype=float))
    scored = rows.assign(other="ignored")[["other", "y", "x"]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = model.predict_proba(scored)[:, 1]
        found = predict_scores(model, scored, ["x", "y"], [], "classification")
    np.testing.assert_array_equal(found, expected)
    # Asked for in another order, they are selected by name all the same.
    np.testing.assert_array_equal(predict_scores(model, scored, ["y", "x"], [], "classification"), expected)
