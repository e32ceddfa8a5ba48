import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory_assets.contracts.model_line import LabelSpec, ModelLineSpec
from factory_assets.contracts.reports import Evaluation
from factory_assets.core.serving.promotion import decide_promotion

NAN = math.nan
BAD_VALUES = [NAN, math.inf, -math.inf]


def _spec(metric="roc_auc", **gate):
    estimator = "Ridge" if metric in ("rmse", "mae", "r2") else "LogisticRegression"
    return ModelLineSpec(
        name="line",
        feature_set="feat",
        entity=("id",),
        as_of="at",
        label=LabelSpec(model="fct", column="late", known_at="known"),
        estimator=f"sklearn.linear_model.{estimator}",
        validation={"metric": metric},
        promote_when=gate,
    )


def _evaluation(value, metric="roc_auc", dummy=0.5, rows=400):
    return Evaluation(metric, rows, {metric: value}, {metric: dummy}, {metric: 0.6})


def test_the_first_model_that_beats_the_dummy_is_promoted():
    decision = decide_promotion(_spec(), _evaluation(0.7), None)
    assert decision.promote
    assert decision.champion_value is None
    assert decision.reason == "Promoted: the first champion, roc_auc 0.7000 on 400 holdout rows."


@pytest.mark.parametrize(("value", "promote"), [(0.71, True), (0.7, False), (0.69, False)])
def test_a_challenger_must_be_strictly_better_than_the_champion(value, promote):
    decision = decide_promotion(_spec(), _evaluation(value), _evaluation(0.7))
    assert decision.promote is promote
    assert "champion's 0.7000" in decision.reason
    assert (decision.challenger_value, decision.champion_value) == (value, 0.7)


@pytest.mark.parametrize(("value", "promote"), [(2.9, True), (3.0, False), (3.1, False)])
def test_for_an_error_lower_is_better(value, promote):
    champion, challenger = _evaluation(3.0, "rmse", 9.0), _evaluation(value, "rmse", 9.0)
    assert decide_promotion(_spec("rmse"), challenger, champion).promote is promote


def test_the_dummy_must_be_beaten_strictly_even_without_a_champion():
    decision = decide_promotion(_spec(better_than_champion=False), _evaluation(0.5), None)
    assert not decision.promote
    assert "does not beat the dummy model's 0.5000" in decision.reason


def test_floor_and_ceiling_hold():
    assert not decide_promotion(_spec(at_least=0.8), _evaluation(0.79), None).promote
    assert decide_promotion(_spec(at_least=0.8), _evaluation(0.8), None).promote
    refused = decide_promotion(_spec("rmse", at_most=2.0), _evaluation(2.1, "rmse", 9.0), None)
    assert not refused.promote
    assert "above promote_when.at_most, 2" in refused.reason
    assert decide_promotion(_spec("rmse", at_most=2.0), _evaluation(2.0, "rmse", 9.0), None).promote


def test_better_than_champion_can_be_switched_off():
    assert decide_promotion(_spec(better_than_champion=False), _evaluation(0.6), _evaluation(0.9)).promote


@pytest.mark.parametrize("value", BAD_VALUES)
@pytest.mark.parametrize("metric", ["roc_auc", "rmse"])
def test_an_undefined_challenger_never_wins(value, metric):
    for champion in (None, _evaluation(NAN, metric, 9.0)):
        decision = decide_promotion(_spec(metric), _evaluation(value, metric, 9.0), champion)
        assert not decision.promote
        assert "undefined" in decision.reason


@pytest.mark.parametrize("value", BAD_VALUES)
def test_an_undefined_champion_protects_nothing(value):
    assert decide_promotion(_spec(), _evaluation(0.6), _evaluation(value)).promote


def test_an_undefined_dummy_is_not_beaten():
    assert not decide_promotion(_spec(), _evaluation(0.9, dummy=NAN), None).promote


def test_a_metric_that_was_not_computed_counts_as_undefined():
    assert not decide_promotion(_spec("brier"), _evaluation(0.9), None).promote


def test_models_judged_on_different_rows_are_not_compared():
    with pytest.raises(ValueError, match="same holdout: 399 and 400"):
        decide_promotion(_spec(), _evaluation(0.9), _evaluation(0.8, rows=399))


@given(st.floats(), st.floats(), st.floats(), st.sampled_from(["roc_auc", "rmse"]))
def test_whatever_is_promoted_is_finite_and_better_than_dummy_and_champion(value, reigning, dummy, metric):
    spec = _spec(metric)
    decision = decide_promotion(spec, _evaluation(value, metric, dummy), _evaluation(reigning, metric, dummy))
    sign = 1 if spec.higher_is_better else -1
    if decision.promote:
        assert math.isfinite(value)
        assert sign * value > sign * dummy
        assert not math.isfinite(reigning) or sign * value > sign * reigning
    assert decision.reason.startswith("Promoted: " if decision.promote else "Not promoted: ")
