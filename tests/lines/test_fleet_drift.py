"""Drift of a fleet over real tables: every champion that serves is judged, on the rows of its own segment or level."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from factory_assets.lines.judging import judge
from factory_assets.lines.reporting import write_report
from factory_assets.lines.scoring import score_days
from factory_assets.lines.training import train_line
from factory_assets.storage.delta.lake import TableSpec
from factory_assets.storage.tables.drift_results import DRIFT_RESULTS
from tests.lines.conftest import START
from tests.lines.fleet_fixture import DAYS, fleet_spec, write_fleet

NOW = START + timedelta(days=DAYS)
LOOKED = NOW + timedelta(days=14)
SHIFTED = "AA~r2"


@pytest.fixture
def fleet(stores: Any) -> Any:
    """A trained fleet, and fourteen days after its training in which `x` of one route has moved."""
    write_fleet(stores.lake)
    trained = replace(stores, spec=fleet_spec(drift={"window": "14d", "min_rows": 100, "false_alarms_per_month": 5}))
    trained.training_sets.build(NOW)
    train_line(trained, NOW, "run")
    table = trained.lake.query("select * from t order by id", t=trained.lake.pin("features/feat_thing"))
    random = np.random.default_rng(5)
    later = table.filter(pa.compute.less(table["at"], pa.scalar(START + timedelta(days=14), table["at"].type)))
    moved = np.array(
        [f"{c}~{r}" == SHIFTED for c, r in zip(*(later[n].to_pylist() for n in ("carrier", "route")), strict=True)]
    )
    later = later.set_column(
        later.column_names.index("id"), "id", pa.array([f"{name}-later" for name in later["id"].to_pylist()])
    )
    later = later.set_column(
        later.column_names.index("at"),
        "at",
        pa.array([at + timedelta(days=DAYS) for at in later["at"].to_pylist()], table["at"].type),
    )
    later = later.set_column(later.column_names.index("x"), "x", pa.array(random.normal(size=len(moved)) + 2.0 * moved))
    trained.lake.replace(TableSpec("features/feat_thing", table.schema, ("id",)), pa.concat_tables([table, later]))
    return trained


def judged_segments(stores: Any, check: str) -> dict[str, dict[str, Any]]:
    return {row["segment"]: row for row in stores.lake.rows(DRIFT_RESULTS) if row["check"] == check}


def test_every_champion_that_serves_is_judged_on_its_own_rows(fleet: Any) -> None:
    serving = fleet.versions.standing("delay").serving
    assert {"all", SHIFTED, "AA~r1"} <= set(serving)
    judgement = judge(fleet, "feature_drift", LOOKED, "run")
    found = judged_segments(fleet, "feature_drift")
    assert set(found) == set(serving)
    assert {key: row["champion_version"] for key, row in found.items()} == {k: c.version for k, c in serving.items()}
    assert found["AA~r1"]["current_rows"] == 14 * 16
    assert found["all"]["current_rows"] > 4 * 14 * 16
    assert judgement.failing_segments[0] == SHIFTED
    assert "AA~r1" not in judgement.failing_segments
    assert not judgement.passed
    assert judgement.numbers["worst_segment"] == SHIFTED


def test_scores_are_judged_by_the_model_that_gave_them(fleet: Any) -> None:
    days = [(NOW + timedelta(days=n)).date() for n in range(14)]
    score_days(fleet, days, "UTC", LOOKED, "run")
    judgement = judge(fleet, "prediction_drift", LOOKED, "run")
    assert SHIFTED in judgement.failing_segments
    assert "AA~r1" not in judgement.failing_segments
    assert judged_segments(fleet, "prediction_drift")[SHIFTED]["current_rows"] == 14 * 16


def test_the_report_shows_the_distributions_of_the_worst_segments_beside_those_of_all_rows(fleet: Any) -> None:
    judge(fleet, "feature_drift", LOOKED, "run")
    page = write_report(fleet, LOOKED)
    shown = [part.split("<")[0] for part in page.split("<h2>Distributions, reference against current: ")[1:]]
    assert shown[:2] == ["all", SHIFTED]
    assert len(shown) > 2
