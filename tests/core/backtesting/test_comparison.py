import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory_assets.contracts.model_line import METRICS
from factory_assets.core.backtesting.comparison import JudgedRows, evaluate_gains, evaluate_weeks

DAYS = 120


def judged(seed: int, each_day: int = 20) -> tuple[JudgedRows, np.ndarray, np.ndarray]:
    """Rows, scores that know the labels' chance, and scores that know less of it."""
    random = np.random.default_rng(seed)
    chance = random.uniform(size=DAYS * each_day)
    labels = (random.uniform(size=len(chance)) < chance).astype(float)
    worse = np.clip(chance + random.normal(scale=0.3, size=len(chance)), 0.01, 0.99)
    return JudgedRows(labels, np.repeat(np.arange(DAYS), each_day)), chance, worse


@pytest.mark.parametrize("metric", METRICS)
def test_what_is_better_has_a_positive_gain_whatever_the_direction_of_the_metric(metric: str) -> None:
    rows, good, bad = judged(1)
    gains = evaluate_gains(metric, rows, {"good": good, "bad": bad}, "bad")
    assert set(gains) == {"good"}
    assert 0 < gains["good"].low < gains["good"].gain < gains["good"].high
    turned = evaluate_gains(metric, rows, {"good": good, "bad": bad}, "good")["bad"]
    assert turned.gain == pytest.approx(-gains["good"].gain)


def test_equal_scores_are_equally_good_to_the_last_digit() -> None:
    rows, good, _ = judged(2)
    gain = evaluate_gains("roc_auc", rows, {"a": good, "b": good.copy()}, "b")["a"]
    assert (gain.gain, gain.low, gain.high) == (0.0, 0.0, 0.0)
    assert not np.signbit([gain.gain, gain.low, gain.high]).any()


def test_days_that_hang_together_widen_the_interval() -> None:
    """A policy that is better in one half of the weeks and worse in the other is not known to be better."""
    random = np.random.default_rng(3)
    days = np.repeat(np.arange(DAYS), 20)
    labels = random.normal(size=len(days))
    sign = np.where(days // 14 % 2 == 0, 1.0, -1.0)
    swings = evaluate_gains("mae", JudgedRows(labels, days), {"a": labels + 1 + 0.3 * sign, "b": labels + 1}, "b")["a"]
    mixed = random.permutation(sign)
    steady = evaluate_gains("mae", JudgedRows(labels, days), {"a": labels + 1 + 0.3 * mixed, "b": labels + 1}, "b")["a"]
    assert swings.high - swings.low > 3 * (steady.high - steady.low)
    assert swings.low < 0 < swings.high


@given(seed=st.integers(0, 1000))
def test_the_interval_holds_the_gain_and_the_same_seed_gives_the_same(seed: int) -> None:
    rows, good, bad = judged(seed, each_day=3)
    first, again = (evaluate_gains("brier", rows, {"a": good, "b": bad}, "b", seed)["a"] for _ in range(2))
    assert first == again
    assert first.low <= first.gain <= first.high


def test_weeks_are_the_metric_of_seven_days_from_the_first_day_on() -> None:
    labels = np.array([1.0, 0.0] * 10)
    rows = JudgedRows(labels, np.arange(20) + 15_700)
    weeks = evaluate_weeks("mae", rows, np.zeros(20))
    assert [str(day) for day, _ in weeks] == ["2012-12-26", "2013-01-02", "2013-01-09"]
    assert weeks[0][1] == pytest.approx(4 / 7)
    assert len(evaluate_weeks("roc_auc", JudgedRows(np.ones(20), rows.days), np.zeros(20))) == 0
    assert evaluate_weeks("mae", JudgedRows(np.empty(0), np.empty(0)), np.empty(0)) == ()
