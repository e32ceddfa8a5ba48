from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory_assets.contracts.paybacks import Replacement
from factory_assets.contracts.retrain_policy import PaybackSpec
from factory_assets.core.retraining.paybacks import evaluate_gain, find_replacements, find_rows, is_due
from factory_assets.core.segments import ancestors

NOW = datetime(2013, 7, 1, tzinfo=UTC)
POLICY = PaybackSpec()
LEVELS = (("carrier", "route"), ("carrier",), ())


def decision(sequence, segment, version, promoted=True, serves=True):
    return {
        "sequence": sequence,
        "segment": segment,
        "version": version,
        "promoted": promoted,
        "serves": serves,
        "decided_at_utc": NOW + timedelta(days=sequence),
    }


def replaced(decisions, levels=((),)):
    return [(f.segment, f.version, f.replaced_segment, f.replaced_version) for f in find_replacements(decisions, levels)]


def test_the_first_model_of_a_line_replaces_nothing() -> None:
    assert replaced([decision(1, "all", 1)]) == []


def test_a_promotion_replaces_the_champion_before_whatever_the_gate_refused_between() -> None:
    decisions = [decision(1, "all", 1), decision(2, "all", 2, promoted=False), decision(3, "all", 3)]
    assert replaced(decisions) == [("all", 3, "all", 1)]


def test_the_first_model_of_a_segment_replaces_its_nearest_serving_parents() -> None:
    decisions = [decision(1, "all", 1), decision(1, "AA", 1), decision(2, "AA~r1", 2), decision(2, "UA~r1", 2)]
    # Within one commit nothing was there before: the carrier's own model replaced nothing.
    assert replaced(decisions, LEVELS) == [("AA~r1", 2, "AA", 1), ("UA~r1", 2, "all", 1)]


def test_a_champion_that_had_stepped_back_was_not_what_is_replaced() -> None:
    decisions = [
        decision(1, "all", 1),
        decision(1, "AA", 1),
        decision(2, "AA", 2, promoted=False, serves=False),
        decision(3, "AA", 3),
    ]
    assert replaced(decisions, (("carrier",), ())) == [("AA", 3, "all", 1)]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
def test_every_promotion_but_the_first_has_one_model_that_it_replaced(steps) -> None:
    decisions = [decision(n, "all", n, promoted, serves or promoted) for n, (promoted, serves) in enumerate(steps, 1)]
    found = replaced(decisions)
    promotions = [row["version"] for row in decisions if row["promoted"]]
    assert {version for _, version, _, _ in found} <= set(promotions[1:])
    assert all(before < version and before in promotions for _, version, _, before in found)


def test_parents_are_named_from_the_nearest_to_the_root() -> None:
    assert ancestors("AA~r1", LEVELS) == ["AA", "all"]
    assert ancestors("a%2Fb~%empty", LEVELS) == ["a%2Fb", "all"]
    assert ancestors("all", LEVELS) == []


def test_rows_of_a_promotion_are_those_of_its_segment_from_its_instant_on() -> None:
    at = [NOW + timedelta(days=day) for day in (3, 1, 2, 2, 0)]
    rows = pa.table(
        {
            "at": pa.array(at, pa.timestamp("us", tz="UTC")),
            "carrier": ["AA", "AA", "AA", "UA", "UA"],
            "route": ["r1", "r1", "r2", "r1", "r1"],
        }
    )
    asked = {
        "AA~r1": Replacement("AA~r1", 2, "all", 1, NOW + timedelta(days=1)),
        "AA": Replacement("AA", 2, "all", 1, NOW + timedelta(days=2)),
        "all": Replacement("all", 2, "all", 1, NOW + timedelta(days=2)),
        "ZZ": Replacement("ZZ", 2, "all", 1, NOW),
    }
    found = find_rows(rows, "at", LEVELS, list(asked.values()))
    assert {key: sorted(found[replacement].tolist()) for key, replacement in asked.items()} == {
        "AA~r1": [0, 1],
        "AA": [0, 2],
        "all": [0, 2, 3],
        "ZZ": [],
    }


@pytest.mark.parametrize(
    ("days", "rows", "due"),
    [(13, 1000, False), (14, 199, False), (14, 200, True), (89, 199, False), (90, 0, True)],
)
def test_a_promotion_is_judged_when_time_and_rows_are_there_or_patience_is_over(days, rows, due) -> None:
    replacement = Replacement("all", 2, "all", 1, NOW)
    assert is_due(POLICY, replacement, rows, NOW + timedelta(days=days)) is due


def world(gain, seed=0, rows=1000, days=20):
    """Labels that `x` decides; the promoted model knows `x`, and the replaced one as much less as `gain` says."""
    random = np.random.default_rng(seed)
    x, noise = random.normal(size=rows), random.normal(size=rows)
    labels = (x + random.normal(scale=0.7, size=rows) > 0).astype(float)
    good, bad = x, x * (1 - abs(gain)) + noise * abs(gain)
    scores = [1 / (1 + np.exp(-values)) for values in ((good, bad) if gain >= 0 else (bad, good))]
    return labels, *scores, np.arange(rows) % days


@pytest.mark.parametrize(("gain", "verdict"), [(0.6, "paid"), (-0.6, "did_not_pay")])
@pytest.mark.parametrize("metric", ["roc_auc", "log_loss", "brier", "average_precision"])
def test_a_better_model_paid_and_a_worse_one_did_not_by_any_metric(gain, verdict, metric) -> None:
    found = evaluate_gain(POLICY, metric, *world(gain), skill=0.2)
    assert found.verdict == verdict
    assert np.sign(found.gain) == np.sign(gain)
    assert found.gain_low < found.gain < found.gain_high


def test_a_gain_too_small_to_be_worth_it_did_not_pay_and_the_declared_least_gain_decides() -> None:
    labels, scores, _, days = world(0.0)
    same = evaluate_gain(POLICY, "roc_auc", labels, scores, scores, days, skill=0.3)
    assert (same.verdict, same.gain) == ("did_not_pay", 0.0)
    found = evaluate_gain(POLICY, "roc_auc", *world(0.25, rows=20_000), skill=0.3)
    assert found.verdict == "paid"
    asks_more = PaybackSpec(min_gain=0.9)
    assert evaluate_gain(asks_more, "roc_auc", *world(0.25, rows=20_000), skill=0.3).verdict == "did_not_pay"


def test_more_confidence_makes_a_wider_interval_that_may_not_decide() -> None:
    narrow, wide = (
        evaluate_gain(PaybackSpec(confidence=level), "roc_auc", *world(0.15, rows=300), skill=0.3) for level in (0.5, 0.999)
    )
    assert wide.gain_low < narrow.gain_low < narrow.gain_high < wide.gain_high
    assert (narrow.verdict, wide.verdict) == ("paid", "undecided")


def test_two_days_or_one_class_or_no_row_tell_nothing() -> None:
    labels, good, bad, days = world(0.6)
    assert evaluate_gain(POLICY, "roc_auc", labels, good, bad, days % 2, skill=0.2).verdict == "undecided"
    found = evaluate_gain(POLICY, "roc_auc", np.ones(1000), good, bad, days, skill=0.2)
    assert (found.verdict, found.rows) == ("undecided", 1000)
    nothing = np.empty(0)
    assert evaluate_gain(POLICY, "roc_auc", nothing, nothing, nothing, nothing.astype(int), skill=0.2).verdict == "undecided"


def test_a_model_that_is_really_as_good_is_seldom_said_to_have_paid() -> None:
    """At 90% confidence one in twenty, by chance."""
    random = np.random.default_rng(5)
    paid = 0
    for _ in range(200):
        days = np.arange(300) % 15
        x, of_day = random.normal(size=300), random.normal(size=15)[days]
        labels = (x + of_day + random.normal(size=300) > 0).astype(float)
        a, b = (1 / (1 + np.exp(-(x + random.normal(scale=0.5, size=300)))) for _ in range(2))
        paid += evaluate_gain(POLICY, "roc_auc", labels, a, b, days, skill=0.3).verdict == "paid"
    assert paid <= 20


@settings(max_examples=30)
@given(st.floats(-0.9, 0.9), st.integers(0, 5))
def test_swapping_the_two_models_turns_the_gain_round(gain, seed) -> None:
    labels, own, other, days = world(gain, seed, rows=200)
    one = evaluate_gain(POLICY, "brier", labels, own, other, days, skill=0.0)
    two = evaluate_gain(POLICY, "brier", labels, other, own, days, skill=0.0)
    assert one.gain == pytest.approx(-two.gain)
    assert (one.gain_low, one.gain_high) == pytest.approx((-two.gain_high, -two.gain_low))
