"""Quality and labels of a fleet over real tables: every model that serves is judged, on the rows that it scored."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from factory_assets.contracts.model_line import CheckKind
from factory_assets.lines.judging import judge
from factory_assets.lines.judging.judgement import Judgement
from factory_assets.lines.scoring import score_days
from factory_assets.lines.training import train_line
from tests.lines.conftest import START
from tests.lines.fleet_fixture import DAYS, fleet_spec, write_fleet, write_later

NOW = START + timedelta(days=DAYS)
LOOKED = NOW + timedelta(days=14)
DAYS_LATER = [(NOW + timedelta(days=day)).date() for day in range(14)]
CHECKS: tuple[CheckKind, ...] = ("label_drift", "quality", "estimated_quality")
POLICY: dict[str, Any] = {"drift": {"window": "14d", "min_rows": 100}, "parents": []}


def judge_later(stores: Any, **changed: Any) -> dict[CheckKind, Judgement]:
    """A fleet is trained; of the rows of two weeks after, some have changed."""
    write_fleet(stores.lake)
    stores = replace(stores, spec=fleet_spec(**POLICY))
    stores.training_sets.build(NOW)
    train_line(stores, NOW, "run")
    assert set(stores.versions.standing("delay").serving) == {"all", "AA~r1", "AA~r2", "UA~r1"}
    write_later(stores.lake, **changed)
    score_days(stores, DAYS_LATER, "UTC", LOOKED, "run")
    return {check: judge(stores, check, LOOKED, "run") for check in CHECKS}


@pytest.mark.parametrize(("route", "judged_by"), [("AA~r1", "AA~r1"), ("UA~r2", "all")])
def test_the_model_that_serves_a_route_whose_labels_turned_has_decayed_and_no_other(
    stores: Any, route: str, judged_by: str
) -> None:
    found = judge_later(stores, turned=(route,))
    assert found["quality"].failing_segments == (judged_by,)
    assert found["quality"].summary.startswith(f"1 of 4 judged models decayed. Segment {judged_by}: roc_auc decayed: ")
    assert found["quality"].numbers["rows"] == 14 * 16
    assert found["quality"].numbers["loss_of_segments"] == {judged_by: found["quality"].numbers["loss"]}
    assert found["estimated_quality"].passed


def test_unchanged_rows_fail_no_check_of_any_model(stores: Any) -> None:
    found = judge_later(stores)
    assert [check for check in CHECKS if not found[check].passed] == []
    assert found["quality"].summary.startswith("0 of 4 judged models decayed.")
    assert found["label_drift"].numbers["judged_segments"] == 4
    assert all("What all scored was compared with those holdout rows" in judgement.summary for judgement in found.values())


def test_labels_that_became_common_are_found_where_they_did(stores: Any) -> None:
    found = judge_later(stores, all_late=("UA~r1",))
    assert found["label_drift"].failing_segments == ("UA~r1",)
    assert "Segment UA~r1: beyond what the features explain by +" in found["label_drift"].summary


@pytest.mark.parametrize("is_used", [True, False])
def test_segments_whose_models_are_old_and_in_use_are_named(stores: Any, is_used: bool) -> None:
    write_fleet(stores.lake)
    stores = replace(stores, spec=fleet_spec(**POLICY))
    stores.training_sets.build(NOW)
    train_line(stores, NOW, "run")
    write_later(stores.lake, 36)
    later = NOW + timedelta(days=10)
    stores.training_sets.build(later)
    train_line(stores, later, "run", ["AA~r1", "AA~r2", "UA~r1"])
    serving = stores.versions.standing("delay").serving
    assert {s for s, champion in serving.items() if champion.version == 2} == {"AA~r1", "UA~r1"}
    looked = NOW + timedelta(days=35)
    if is_used:
        score_days(stores, [(looked - timedelta(days=1)).date()], "UTC", looked, "run")
    judgement = judge(stores, "model_age", looked, "run")
    assert judgement.failing_segments == (("all", "AA~r2") if is_used else ("all",))
