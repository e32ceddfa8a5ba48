"""The benchmark's two sides do the same work; without that its ratios would say nothing."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from benchmarks.loop import same_work
from benchmarks.loop.compare import run_side
from benchmarks.loop.work import Work, prepare_work

Sides = tuple[Path, Path, dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    # Fourteen days are held out, so a week is left to learn from.
    return prepare_work(tmp_path_factory.mktemp("work") / "work", date(2013, 1, 1), history_days=21, week_days=2)


@pytest.fixture(scope="module")
def sides(work: Work, tmp_path_factory: pytest.TempPathFactory) -> Sides:
    bare, factory = (tmp_path_factory.mktemp("sides") / side for side in ("bare", "factory"))
    return bare, factory, run_side("bare", work, bare), run_side("factory", work, factory)


@pytest.mark.slow
def test_rows_scores_and_verdicts_are_the_same_on_both_sides(sides: Sides) -> None:
    bare, factory, _, _ = sides
    assert same_work.find_differences(bare, factory) == []


@pytest.mark.slow
def test_holdout_metrics_are_the_same_on_both_sides(sides: Sides) -> None:
    *_, bare, factory = sides
    assert set(bare["facts"]["metrics"]) == {"arrival_delay", "departure_volume"}
    assert same_work.find_different_metrics(bare["facts"]["metrics"], factory["facts"]["metrics"]) == []


@pytest.mark.slow
def test_every_stage_of_the_bare_script_has_its_counterpart_in_dagsters_record(sides: Sides) -> None:
    *_, bare, factory = sides
    for phase in ("history", "week"):
        assert set(factory["seconds"][phase]) == {*bare["seconds"][phase], "orchestration"}


@pytest.mark.slow
def test_a_missing_row_and_an_altered_score_are_noticed(sides: Sides, tmp_path: Path) -> None:
    import shutil

    from deltalake import DeltaTable

    bare, factory, _, _ = sides
    altered = tmp_path / "altered"
    shutil.copytree(bare / "lake", altered / "lake")
    DeltaTable(altered / "lake" / "bronze" / "airlines").delete("carrier = 'UA'")
    scores = DeltaTable(altered / "lake" / "predictions" / "departure_volume")
    scores.update(updates={"score": "score + 0.5"}, predicate="origin = 'JFK'")
    differences = same_work.find_differences(altered, factory)
    assert [sentence.split(":")[0] for sentence in differences] == ["bronze/airlines", "predictions/departure_volume"]


def test_a_metric_that_differs_is_named() -> None:
    assert same_work.find_different_metrics({"line": {"mae": 1.0}}, {"line": {"mae": 1.1}}) == ["line: mae is 1.0 and 1.1"]
