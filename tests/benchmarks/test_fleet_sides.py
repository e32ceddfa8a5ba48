"""The sides of the fleet's benchmark fit the same models; without that its ratios would say nothing."""

from pathlib import Path

import pytest

from benchmarks.fleet.compare import DifferentWorkError, prepare, require_same_models, run_side
from benchmarks.fleet.work import pick_segments, read_flights


@pytest.mark.slow
def test_both_sides_come_to_the_same_models_and_an_unchanged_fleet_trains_nothing(tmp_path: Path) -> None:
    flights = read_flights()
    some = pick_segments(flights, 12)
    measured = {}
    for side, phases in (("bare", ()), ("factory", ("cycle", "nothing"))):
        measured[side] = run_side(side, prepare(tmp_path / side, some, 12, "trees"), *phases)["facts"]
    require_same_models(measured["bare"]["metrics"], measured["factory"]["metrics"])
    assert measured["factory"]["nothing versions"] == measured["factory"]["cycle versions"] > 6


def test_models_that_differ_are_not_compared() -> None:
    with pytest.raises(DifferentWorkError, match=r"1 of 2 segments differ: b: 0\.5 and 0\.6"):
        require_same_models({"a": 0.7, "b": 0.5}, {"a": 0.7, "b": 0.6})
