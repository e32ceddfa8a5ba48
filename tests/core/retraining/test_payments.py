from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory_assets.contracts.paybacks import RetrainResult
from factory_assets.contracts.retrain_policy import PaybackSpec
from factory_assets.core.retraining.payments import PaymentRecord, evaluate_payments

START = datetime(2013, 1, 1, tzinfo=UTC)
WORDS = {"+": True, "-": False, "?": None}


def results(history, segment="all"):
    """Oldest first: `+` paid, `-` did not, `?` cannot be told."""
    return [RetrainResult(segment, START + timedelta(days=day), WORDS[word]) for day, word in enumerate(history)]


@pytest.mark.parametrize(
    ("history", "factor"),
    [("", 1), ("-", 1), ("--", 2), ("+--", 2), ("---", 4), ("------", 8), ("---+", 1), ("+-+-", 1), ("-?-", 2), ("?", 1)],
)
def test_the_cooldown_doubles_from_the_second_unpaid_retrain_in_a_row_up_to_eight_times(history, factor) -> None:
    payments = evaluate_payments(PaybackSpec(), results(history))
    assert payments.get("all", PaymentRecord()).cooldown_factor == factor


@pytest.mark.parametrize(
    ("rules", "factor"),
    [({"slower_after": 3}, 2), ({"slower_by": 3}, 8), ({"slower_by": 1}, 1), ({"slower_at_most": 3}, 3), ({}, 4)],
)
def test_the_rules_are_the_declared_ones(rules, factor) -> None:
    assert evaluate_payments(PaybackSpec(**rules), results("---"))["all"].cooldown_factor == factor


def test_each_segment_has_a_record_of_its_own() -> None:
    payments = evaluate_payments(PaybackSpec(), [*results("++-", "a"), *results("--", "b")])
    assert payments == {"a": PaymentRecord(2, 3, 1.0), "b": PaymentRecord(0, 2, 2.0)}


@pytest.mark.parametrize(("history", "factor"), [("+", 1), ("++", 1 / 2), ("-+++", 1 / 4), ("+++++++", 1 / 8), ("+++-", 1)])
def test_retrains_in_a_row_that_paid_shorten_the_cooldown_by_the_same_rules(history, factor) -> None:
    assert evaluate_payments(PaybackSpec(), results(history))["all"].cooldown_factor == factor


@given(st.text("+-?", max_size=40), st.floats(1, 10), st.integers(1, 5))
def test_the_factor_keeps_within_its_bounds_and_one_result_the_other_way_puts_it_back(history, by, after) -> None:
    spec = PaybackSpec(slower_by=by, slower_after=after, slower_at_most=5)
    for record in evaluate_payments(spec, results(history)).values():
        assert 1 / 5 <= record.cooldown_factor <= 5
        assert record.paid <= record.judged == len(history.replace("?", ""))
    before = evaluate_payments(spec, results(history)).get("all", PaymentRecord()).cooldown_factor
    for word, turned in (("+", before > 1), ("-", before < 1)):
        after_it = evaluate_payments(spec, results(history + word))["all"].cooldown_factor
        assert after_it <= before if word == "+" else after_it >= before
        assert not turned or after_it == (1 if after > 1 else pytest.approx({"+": 1 / min(by, 5), "-": min(by, 5)}[word]))
