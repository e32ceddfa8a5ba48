import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics

from factory_assets.contracts.model_line import METRICS
from factory_assets.core.metrics import evaluate_metric, evaluate_metrics, evaluate_row_losses, higher_is_better


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_every_metric_of_the_task_is_there_and_no_other(task):
    found = evaluate_metrics(task, np.array([0, 1, 1]), np.array([0.1, 0.7, 0.6]))
    assert set(found) == {name for name, (of, _) in METRICS.items() if of == task}
    assert all(isinstance(value, float) and math.isfinite(value) for value in found.values())


def test_known_values():
    found = evaluate_metrics("classification", np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    assert found["roc_auc"] == 0.75
    assert found["average_precision"] == pytest.approx(0.8333333)
    assert found["brier"] == pytest.approx((0.01 + 0.16 + 0.4225 + 0.04) / 4)
    found = evaluate_metrics("regression", np.array([1.0, 3.0]), np.array([2.0, 5.0]))
    assert (found["mae"], found["rmse"]) == (1.5, pytest.approx(math.sqrt(2.5)))
    assert found["r2"] == pytest.approx(1 - 5 / 2)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_leaves_the_ranking_metrics_undefined(label):
    found = evaluate_metrics("classification", np.full(3, label), np.array([0.2, 0.3, 0.4]))
    assert math.isnan(found["roc_auc"])
    assert math.isnan(found["average_precision"])
    assert math.isfinite(found["log_loss"])
    assert math.isfinite(found["brier"])


def test_constant_labels_leave_r2_undefined():
    found = evaluate_metrics("regression", np.ones(3), np.array([1.0, 1.0, 1.0]))
    assert math.isnan(found["r2"])
    assert found["rmse"] == 0.0


@pytest.mark.parametrize("scores", [[], [math.nan, 0.5], [math.inf, 0.5]])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_nothing_is_made_up_without_rows_or_from_undefined_scores(task, scores):
    found = evaluate_metrics(task, np.arange(len(scores)), np.array(scores))
    assert all(math.isnan(value) for value in found.values())


def test_vectors_of_different_length_are_refused():
    with pytest.raises(ValueError, match="equally long"):
        evaluate_metrics("regression", np.ones(3), np.ones(2))


def test_certainty_that_is_wrong_costs_much_and_stays_finite():
    found = evaluate_metrics("classification", np.array([0, 1]), np.array([1.0, 0.0]))
    assert 10 < found["log_loss"] < math.inf


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=30))
def test_the_order_of_rows_does_not_matter(rows):
    labels, scores = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    there = evaluate_metrics("classification", labels, scores)
    back = evaluate_metrics("classification", labels[::-1], scores[::-1])
    assert all(there[name] == pytest.approx(back[name], nan_ok=True) for name in there)


def test_directions():
    assert [name for name in METRICS if higher_is_better(name)] == ["roc_auc", "average_precision", "r2"]


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])), min_size=2, max_size=30))
def test_every_metric_of_a_classification_is_scikit_learns(rows):
    labels, scores = (np.array(values, dtype=float) for values in zip(*rows, strict=True))
    assume(0 < labels.sum() < len(labels))
    expected = {
        "roc_auc": metrics.roc_auc_score(labels, scores),
        "average_precision": metrics.average_precision_score(labels, scores),
        "log_loss": metrics.log_loss(labels, scores, labels=[0.0, 1.0]),
        "brier": metrics.brier_score_loss(labels, scores),
    }
    assert evaluate_metrics("classification", labels, scores) == pytest.approx(expected, rel=1e-9)


@given(st.lists(st.tuples(st.integers(-9, 9), st.floats(-9, 9)), min_size=2, max_size=30))
def test_every_metric_of_a_regression_is_scikit_learns(rows):
    labels, scores = (np.array(values, dtype=float) for values in zip(*rows, strict=True))
    assume(np.ptp(labels) > 0)
    expected = {
        "r2": metrics.r2_score(labels, scores),
        "mae": metrics.mean_absolute_error(labels, scores),
        "rmse": metrics.root_mean_squared_error(labels, scores),
    }
    assert evaluate_metrics("regression", labels, scores) == pytest.approx(expected, rel=1e-9)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=30))
def test_one_metric_is_that_of_all_of_them(rows):
    labels, scores = (np.array(values, dtype=float) for values in zip(*rows, strict=True))
    for name, value in evaluate_metrics("classification", labels, scores).items():
        np.testing.assert_equal(evaluate_metric(name, labels, scores), value)


@pytest.mark.parametrize(
    ("metric", "mean"), [("roc_auc", "log_loss"), ("brier", "brier"), ("mae", "mae"), ("log_loss", "log_loss")]
)
def test_the_losses_of_the_rows_have_the_metric_as_their_mean(metric, mean):
    labels, scores = np.array([0.0, 1.0, 1.0]), np.array([0.2, 0.9, 0.4])
    assert evaluate_row_losses(metric, labels, scores).mean() == pytest.approx(evaluate_metric(mean, labels, scores))
