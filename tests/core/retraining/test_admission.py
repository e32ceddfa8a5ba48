from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory_assets.contracts.budget import RetrainBudgetSpec
from factory_assets.contracts.retraining import Capacity, Price
from factory_assets.core.retraining.admission import expected_loss
from factory_assets.core.retraining.budget import estimate_price, evaluate_capacity
from factory_assets.core.retraining.payments import PaymentRecord
from tests.core.retraining.factory import HOUR, WALL, Factory, drift_policy, failed

TOMORROW = WALL.replace(hour=0) + 24 * HOUR


def a_fleet(segments, line="fleet", **keys):
    names = tuple(f"s{number}" for number in range(segments))
    factory = Factory(line=line, serving=dict.fromkeys(names, 1), **keys)
    return factory.fail([failed(version=1, segments=names)])


def limited(left, runs=5, segments_a_run=500, a_day=1000.0):
    return Capacity(runs, segments_a_run, a_day, left, TOMORROW)


def test_a_thousand_segments_are_a_few_runs_and_all_are_served():
    factory = a_fleet(1000, capacity=Capacity(runs_at_once=2, segments_a_run=300))
    served = []
    for _ in range(10):
        for request in factory.tick().requests:
            assert len(request.segments) <= 300
            served.append(request.segments)
            factory.end(request.run_key, "kept_champion")
    assert len(served) == 4
    assert sum(map(len, served)) == len(set().union(*served)) == 1000


def test_more_than_the_places_waits_and_says_so():
    factory = a_fleet(1000, capacity=Capacity(runs_at_once=2, segments_a_run=300))
    assert len(factory.tick().requests) == 2
    waiting = [entry for entry in factory.newest() if entry.next_step == "place"]
    assert len(waiting) == 400
    assert factory.tick().entries == ()


def test_places_are_the_factorys_and_not_the_lines():
    first = a_fleet(1, "one", capacity=Capacity(runs_at_once=1))
    first.tick()
    second = a_fleet(1, "two", book=first.book, capacity=Capacity(runs_at_once=1))
    assert not second.tick().requests
    first.end(next(iter(first.requests)), "kept_champion")
    assert second.tick().requests


def test_the_greatest_expected_loss_goes_first_also_between_lines():
    small = a_fleet(1, "small", capacity=Capacity(runs_at_once=1))
    large = a_fleet(1, "large", book=small.book, capacity=Capacity(runs_at_once=1))
    other = a_fleet(1, "other", book=small.book, capacity=Capacity(runs_at_once=1))
    other.tick()
    small.tick(rows_a_day={"s0": 10.0})
    large.tick(rows_a_day={"s0": 1000.0})
    other.end(next(iter(other.requests)), "kept_champion")
    assert not small.tick(rows_a_day={"s0": 10.0}).requests, "the place is left to the line that loses more by waiting"
    assert large.tick(rows_a_day={"s0": 1000.0}).requests


def test_within_a_line_the_budget_goes_to_the_segments_that_lose_most():
    factory = a_fleet(10, capacity=limited(30 + 3 * 60))
    rows = {f"s{number}": float(number) for number in range(10)}
    (request,) = factory.tick(rows_a_day=rows).requests
    assert request.segments == ("s7", "s8", "s9")
    waiting = [entry for entry in factory.newest() if entry.next_step == "budget"]
    assert len(waiting) == 7
    assert {entry.next_step_at_utc for entry in waiting} == {TOMORROW}


@pytest.mark.parametrize("changed", ["effect", "rows_a_day", "paid", "judged"])
def test_each_part_of_the_expected_loss_counts(changed):
    parts = {"effect": 0.5, "rows_a_day": 100.0, "paid": 1, "judged": 2}
    more = {**parts, changed: parts[changed] * 2}
    assert (expected_loss(**more) > expected_loss(**parts)) == (changed != "judged")


def test_effects_traffic_and_past_payment_decide_who_comes_first():
    factory = a_fleet(3, capacity=limited(30 + 60))
    factory.failing = [replace(check, effects={"s1": 9.0}) for check in factory.failing]
    assert factory.decide().requests[0].segments == ("s1",)
    assert factory.decide(rows_a_day={"s2": 20.0}).requests[0].segments == ("s2",)
    paid = {"s1": PaymentRecord(paid=0, judged=20)}
    assert factory.decide(payments=paid).requests[0].segments == ("s0",)


def test_a_model_that_does_not_exist_yet_comes_before_all_others():
    factory = a_fleet(3, capacity=limited(30 + 60))
    factory.serving = {"s0": 1, "s2": 1}
    assert factory.decide(rows_a_day={"s0": 1e9}).requests[0].segments == ("s1",)


def test_a_retrain_that_no_day_can_hold_goes_to_a_person():
    factory = a_fleet(1, capacity=limited(50.0, a_day=50.0))
    factory.tick()
    assert {entry.state for entry in factory.newest()} == {"raised"}


def test_the_full_strategy_trains_the_line_in_one_run_and_is_priced_so():
    factory = a_fleet(4, policy=drift_policy(strategy="full"), capacity=Capacity(2, 1, 1000.0, 30 + 4 * 60, TOMORROW))
    factory.fail([failed(version=1, segments=("s0",))])
    (request,) = factory.tick().requests
    assert (request.segments, request.strategy) == ((), "full")
    assert sum(entry.reserved_cpu_seconds for entry in factory.newest()) == 30 + 4 * 60
    poorer = a_fleet(4, policy=drift_policy(strategy="full"), capacity=limited(30 + 3 * 60))
    assert not poorer.tick().requests


@pytest.mark.parametrize(("key", "value"), [("runs_at_once", 1), ("segments_a_run", 5), ("cpu_minutes_a_day", 5)])
def test_each_key_of_the_budget_changes_what_is_asked_for(key, value):
    def asked(budget):
        factory = a_fleet(20)
        factory.capacity = evaluate_capacity(budget, factory.book.history(), 0.0, {}, WALL)
        return [len(request.segments) for request in factory.tick().requests]

    base = {"runs_at_once": 3, "segments_a_run": 8}
    assert asked(RetrainBudgetSpec(**base)) != asked(RetrainBudgetSpec(**{**base, key: value}))


def test_what_is_in_flight_counts_with_what_was_set_aside_or_has_used_more():
    factory = a_fleet(2, capacity=limited(1000.0))
    (request,) = factory.tick().requests
    budget, history = RetrainBudgetSpec(cpu_minutes_a_day=10), factory.book.history()
    left = [
        evaluate_capacity(budget, history, spent, by_request, WALL).cpu_seconds_left_today
        for spent, by_request in ((0.0, {}), (100.0, {request.run_key: 100.0}), (200.0, {request.run_key: 200.0}))
    ]
    assert left == [600 - 150, 600 - 150, 600 - 200]


def test_a_run_that_died_without_telling_counts_on_its_day():
    factory = a_fleet(2, capacity=limited(1000.0))
    (request,) = factory.tick().requests
    factory.end(request.run_key, "failed")
    factory.tick()
    budget, history = RetrainBudgetSpec(cpu_minutes_a_day=10), factory.book.history()
    assert evaluate_capacity(budget, history, 0.0, {}, WALL).cpu_seconds_left_today == 450
    assert evaluate_capacity(budget, history, 0.0, {}, WALL + 24 * HOUR).cpu_seconds_left_today == 600


@given(
    runs=st.lists(st.tuples(st.integers(1, 50), st.floats(1, 500)), min_size=1, max_size=5),
    segments=st.integers(1, 1000),
)
def test_the_price_covers_every_past_run(runs, segments):
    if segments == 1:
        runs = [(1, seconds) for _, seconds in runs]
    price = estimate_price(runs, segments)
    assert all(price.expect(count) >= seconds for count, seconds in runs)


@settings(max_examples=50)
@given(data=st.data())
def test_a_storm_never_promises_more_than_the_day_has(data):
    budget = RetrainBudgetSpec(runs_at_once=3, segments_a_run=40, cpu_minutes_a_day=data.draw(st.sampled_from([5, 20, 60])))
    factory = a_fleet(120, price=Price(20.0, data.draw(st.sampled_from([5.0, 30.0]))))
    spent, by_request = 0.0, {}
    for _ in range(20):
        factory.capacity = evaluate_capacity(budget, factory.book.history(), spent, by_request, factory.wall)
        for request in factory.tick().requests:
            reserved = sum(e.reserved_cpu_seconds for e in factory.newest() if e.run_key == request.run_key)
            used = reserved * data.draw(st.floats(0.2, 1.0))
            spent, by_request[request.run_key] = spent + used, used
            factory.end(request.run_key, data.draw(st.sampled_from(["kept_champion", "failed"])))
        assert spent <= budget.cpu_minutes_a_day * 60
