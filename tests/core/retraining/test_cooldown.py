from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory_assets.contracts.retrain_policy import RetrainSpec
from factory_assets.core.retraining import decide_retraining
from factory_assets.core.retraining.cooldown import evaluate_cooldown
from factory_assets.core.retraining.payments import PaymentRecord
from tests.core.retraining.factory import NOW, Factory, failed

DAY = timedelta(days=1)
TRIGGERS = st.sets(
    st.sampled_from(["feature_drift", "prediction_drift", "quality", "estimated_quality", "model_age"]), min_size=1
)


@pytest.mark.parametrize(
    ("cooldown", "payback", "factor", "days"),
    [
        ("21d", {}, 8, 30),
        ("21d", {"longest": "60d"}, 8, 60),
        ("60d", {"longest": "30d"}, 8, 60),
        ("3d", {}, 4, 12),
        ("8d", {}, 1 / 4, 8),
        ("8d", {"shortest": "1d"}, 1 / 4, 2),
        ("8d", {"shortest": "3d"}, 1 / 4, 3),
        ("8d", {"shortest": "9d"}, 1 / 4, 8),
    ],
)
def test_the_cooldown_keeps_within_the_declared_bounds(cooldown, payback, factor, days) -> None:
    policy = RetrainSpec(cooldown=cooldown, payback=payback)
    assert evaluate_cooldown(policy, factor, ["feature_drift"]) == days * DAY


@given(st.integers(1, 400), st.integers(1, 400), st.none() | st.integers(1, 400), st.floats(1e-6, 1e12), TRIGGERS)
def test_whatever_the_record_a_line_neither_sleeps_past_its_bounds_nor_wakes_too_soon(
    cooldown, longest, shortest, factor, triggers
) -> None:
    payback = {"longest": f"{longest}d"} | ({"shortest": f"{shortest}d"} if shortest else {})
    policy = RetrainSpec(cooldown=f"{cooldown}d", payback=payback)
    found = evaluate_cooldown(policy, factor, triggers)
    assert min(cooldown, shortest or cooldown) * DAY <= found <= max(cooldown, longest) * DAY
    if "quality" in triggers:
        assert found <= cooldown * DAY
    if factor == 1:
        assert found == cooldown * DAY


def _after_a_retrain(policy: RetrainSpec, record: PaymentRecord, days: float, *checks: str):
    """What is asked for so long after an answer, with these checks failing."""
    factory = Factory(policy).fail([failed(data_day=8)])
    (request,) = factory.tick().requests
    factory.end(request.run_key, "kept_champion")
    factory.now = NOW + timedelta(days=days)
    newer = [failed(check, data_day=9) for check in checks]
    return factory, replace(factory.situation(), failed=newer, payments={"all": record})


@given(st.just(1.0) | st.floats(1.01, 64), st.integers(1, 20))
def test_a_measured_loss_waits_for_the_declared_cooldown_however_little_retrains_paid(factor, cooldown) -> None:
    policy = RetrainSpec(triggers=["feature_drift", "quality"], cooldown=f"{cooldown}d")
    record = PaymentRecord(0, 9, factor)
    for days, due in ((cooldown - 0.01, False), (cooldown, True)):
        _, situation = _after_a_retrain(policy, record, days, "quality")
        assert bool(decide_retraining(policy, situation).requests) == due
    _, situation = _after_a_retrain(policy, record, cooldown, "feature_drift")
    assert bool(decide_retraining(policy, situation).requests) == (factor == 1)


def test_causes_of_drift_go_along_with_a_measured_loss() -> None:
    policy = RetrainSpec(triggers=["feature_drift", "quality"], cooldown="5d")
    _, situation = _after_a_retrain(policy, PaymentRecord(0, 4, 4.0), 5, "feature_drift", "quality")
    (request,) = decide_retraining(policy, situation).requests
    assert request.triggers == ("feature_drift", "quality")
