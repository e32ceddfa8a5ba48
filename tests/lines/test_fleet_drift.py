"""Drift of a fleet over real tables: every champion that serves is judged, on the rows of its own segment or level."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from factory_assets.lines.judging import judge
from factory_assets.lines.judging.judgement import Judgement
from factory_assets.lines.reporting import write_report
from factory_assets.lines.scoring import score_days
from factory_assets.lines.training import train_line
from factory_assets.storage.tables.drift_results import DRIFT_RESULTS
from factory_assets.storage.tables.holdout_scores import HOLDOUT_SCORES
from tests.lines.conftest import START
from tests.lines.fleet_fixture import DAYS, RULES, fleet_spec, write_fleet, write_later

NOW = START + timedelta(days=DAYS)
LOOKED = NOW + timedelta(days=14)
SHIFTED = "AA~r2"
DRIFT = {"window": "14d", "min_rows": 100, "false_alarms_per_month": 5}
ONLY_ROOT = {"segments": {"min_rows": 100_000}}
# Without carriers the model of all rows is left one route of many rows: UA~r2.
FLAT: dict[str, Any] = {"parents": []}
SERVING = {"all", "AA~r1", "AA~r2", "UA~r1"}


def train_fleet(stores: Any, **changes: Any) -> Any:
    write_fleet(stores.lake)
    trained = replace(stores, spec=fleet_spec(drift=DRIFT, **changes))
    trained.training_sets.build(NOW)
    train_line(trained, NOW, "run")
    return trained


@pytest.fixture
def fleet(stores: Any) -> Any:
    """A trained fleet, and fourteen days after its training in which `x` of one route has moved."""
    trained = train_fleet(stores)
    write_later(trained.lake, moved={SHIFTED: 2.0})
    return trained


def judged_segments(stores: Any, check: str) -> dict[str, dict[str, Any]]:
    return {row["segment"]: row for row in stores.lake.rows(DRIFT_RESULTS) if row["check"] == check}


def judge_scores(stores: Any, moved: dict[str, float]) -> Judgement:
    write_later(stores.lake, moved=moved)
    score_days(stores, [(NOW + timedelta(days=n)).date() for n in range(14)], "UTC", LOOKED, "run")
    return judge(stores, "prediction_drift", LOOKED, "run")


def test_every_champion_that_serves_is_judged_on_its_own_rows(fleet: Any) -> None:
    serving = fleet.versions.standing("delay").serving
    assert {"all", SHIFTED, "AA~r1"} <= set(serving)
    judgement = judge(fleet, "feature_drift", LOOKED, "run")
    found = judged_segments(fleet, "feature_drift")
    assert set(found) == set(serving)
    assert {key: row["champion_version"] for key, row in found.items()} == {k: c.version for k, c in serving.items()}
    assert found["AA~r1"]["current_rows"] == 14 * 16
    assert found["all"]["current_rows"] == 4 * 14 * 16
    assert judgement.failing_segments[0] == SHIFTED
    assert "AA~r1" not in judgement.failing_segments
    assert not judgement.passed
    assert judgement.numbers["worst_segment"] == SHIFTED


def test_the_days_of_a_fleet_are_drawn_worst_segment_first(fleet: Any) -> None:
    for looked in (LOOKED - timedelta(days=1), LOOKED):
        judgement = judge(fleet, "feature_drift", looked, "run")
    assert judgement.over_days is not None
    days = fleet.drift_results.segment_days("delay", "feature_drift", LOOKED, days=28, most=2)
    assert [cell.day for cell in days] == [(LOOKED - timedelta(days=1)).date(), LOOKED.date()] * 2
    assert [cell.segment for cell in days[:2]] == [SHIFTED] * 2
    assert days[1].drifted
    found = fleet.lake.rows(DRIFT_RESULTS, "segment = ? and window_end_utc = ?", [SHIFTED, LOOKED])
    assert days[1].severity == max(row["effect"] / row["threshold"] for row in found)
    assert {cell.day for cell in fleet.drift_results.segment_days("delay", "feature_drift", LOOKED, 1, 2)} == {LOOKED.date()}


def test_scores_are_judged_by_the_model_that_gave_them(fleet: Any) -> None:
    days = [(NOW + timedelta(days=n)).date() for n in range(14)]
    score_days(fleet, days, "UTC", LOOKED, "run")
    judgement = judge(fleet, "prediction_drift", LOOKED, "run")
    assert judgement.failing_segments == (SHIFTED,)
    assert judged_segments(fleet, "prediction_drift")[SHIFTED]["current_rows"] == 14 * 16


def test_scores_of_a_fleet_that_only_its_global_model_serves_are_judged(stores: Any) -> None:
    stores = train_fleet(stores, **ONLY_ROOT)
    assert list(stores.versions.standing("delay").serving) == ["all"]
    judgement = judge_scores(stores, dict.fromkeys(RULES, 3.0))
    assert (judgement.passed, judgement.failing_segments) == (False, ("all",))
    assert "in 896 current against 780 reference rows" in judgement.summary


@pytest.mark.parametrize("moved", [{}, {"UA~r2": 3.0}])
def test_a_parents_scores_are_compared_with_the_holdout_of_the_segments_it_serves(
    stores: Any, moved: dict[str, float]
) -> None:
    stores = train_fleet(stores, **FLAT)
    assert set(stores.versions.standing("delay").serving) == SERVING
    judgement = judge_scores(stores, moved)
    assert judgement.failing_segments == (("all",) if moved else ())
    found = judged_segments(stores, "prediction_drift")
    assert {segment: row["current_rows"] for segment, row in found.items()} == dict.fromkeys(SERVING, 14 * 16)
    assert found["all"]["reference_rows"] == 12 * 16 + 12  # of sixteen days the exam has four
    assert "What all scored was compared with those holdout rows that no model below would serve." in judgement.summary


def test_what_a_parent_serves_is_not_judged_by_another_kind_of_rows(stores: Any) -> None:
    stores = train_fleet(stores, **FLAT)
    stores.lake.replace(HOLDOUT_SCORES, HOLDOUT_SCORES.schema.empty_table())
    judgement = judge_scores(stores, {"UA~r2": 3.0})
    assert set(judged_segments(stores, "prediction_drift")) == SERVING - {"all"}
    assert "Not judged: all (224 rows), of whose holdout no such rows were kept." in judgement.summary


def test_holdouts_are_kept_of_the_parents_that_serve_and_of_the_newest(stores: Any) -> None:
    stores = train_fleet(stores, **FLAT)
    first = stores.versions.standing("delay").serving["all"].version
    write_later(stores.lake)
    stores.training_sets.build(LOOKED)
    outcome = train_line(stores, LOOKED, "run")
    serving = stores.versions.standing("delay").serving["all"].version
    kept = {row["model_version"] for row in stores.lake.rows(HOLDOUT_SCORES)}
    assert kept == {first, outcome.cycle.version} >= {serving}


def test_the_report_shows_the_distributions_of_the_worst_segments_beside_those_of_all_rows(fleet: Any) -> None:
    judge(fleet, "feature_drift", LOOKED, "run")
    page = write_report(fleet, LOOKED)
    shown = [part.split("<")[0] for part in page.split("<h2>Distributions, reference against current: ")[1:]]
    assert shown[:2] == ["all", SHIFTED]
    assert len(shown) > 2
