"""A broken file is held, mended and taken in again, and the days after it are scored anew: the whole way, on real stores."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from factory_assets.components.naming import DAILY_JOB, MONITOR_JOB, range_tags
from factory_assets.storage.delta.lake import Lake
from tests.components.conftest import Sandbox
from tests.components.test_late_files import SOURCE, land
from tests.components.test_own_checks import LINE, World

# How many things there were lately: a day that is held leaves a hole in the three days after it.
_ROLLING = """
{{ config(materialized='delta', schema='features') }}
select id, "at", x, kind, count(*) over (order by "at" range interval 3 days preceding) as lately
from {{ source('bronze', 'events') }}
"""


@pytest.fixture
def world(sandbox: Sandbox, tmp_path: Path) -> Any:
    sandbox.declare("calendar", "Calendar", {"start": "2013-01-01", "timezone": "UTC"})
    sandbox.declare("events", "DeltaSource", SOURCE)
    with dg.DagsterInstance.ephemeral(str(tmp_path)) as instance:
        world = World(sandbox, instance, {**LINE, "retrain": {"triggers": ["model_age"]}}, has_rows=False)
        (sandbox.root / "small" / "project" / "models" / "features" / "feat_thing.sql").write_text(_ROLLING)
        yield world


def scored_by(world: World) -> dict[str, str]:
    """The run that scored each day last."""
    sql = "select prediction_date::varchar as day, any_value(dagster_run_id) as run from t group by all order by day"
    rows = world.lake.query(sql, t=world.lake.pin("predictions/delay")).to_pylist()
    return {row["day"]: row["run"] for row in rows}


def check_skew(world: World) -> tuple[bool, int]:
    found = {e.check_name: e for e in world.run(MONITOR_JOB).get_asset_check_evaluations()}["skew"]
    return found.passed, found.metadata["compared_rows"].value


def test_days_whose_features_change_with_a_mended_one_are_scored_again_and_skew_passes(world: World, tmp_path: Path) -> None:
    made, landing = Lake(str(tmp_path / "made")), Path(world.settings.landing)
    for day in (*range(11, 32), *range(32, 41)):
        land(landing, made, f"2013-01-{day}" if day < 32 else f"2013-02-{day - 31:02}")
    broken = landing / "events" / "2013-02-05.csv"
    sound = broken.read_text()
    broken.write_text(sound.replace("id,at,x,", "id,at,y,"))
    assert world.run(DAILY_JOB, tags=range_tags("2013-01-11", "2013-02-09")).success
    assert world.run("delay__retrain").success
    before = scored_by(world)
    assert "2013-02-05" not in before
    assert {"2013-02-04", "2013-02-06", "2013-02-09"} <= set(before)
    assert check_skew(world) == (True, 24 * len(before))

    broken.write_text(sound)
    (request,) = world.tick("catch_up").run_requests
    mended = world.run(DAILY_JOB, tags=request.tags)
    assert mended.success
    after = scored_by(world)
    anew = {day for day, run in after.items() if run == mended.run_id}
    assert anew == {"2013-02-05", "2013-02-06", "2013-02-07", "2013-02-08"}
    assert {day: run for day, run in after.items() if day not in anew} == {d: r for d, r in before.items() if d not in anew}
    noted = {event.partition for event in mended.asset_materializations_for_node("delay__predictions")}
    assert noted == anew
    assert check_skew(world) == (True, 24 * len(after))
