"""A dbt test and a plain Dagster asset check of the user's own start retrains and block scoring, by their names alone."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from deltalake import write_deltalake
from typer.testing import CliRunner

from factory_assets.cli import app
from factory_assets.components.naming import CAUSE_TAG, DAILY_JOB, RANGE_END_TAG, RANGE_START_TAG, range_tags
from factory_assets.resources import build_resources
from factory_assets.storage.clock import FactoryClock
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.tables.incidents import Incidents
from factory_assets.storage.tables.retrain_ledger import RetrainLedger
from tests.components.conftest import Sandbox
from tests.components.test_broken_feeds import an_incident
from tests.components.test_declarations_in_a_sandbox import problems_of
from tests.dbt.conftest import make_sandbox
from tests.declared_lines import THING_LINE
from tests.lines.conftest import NOW, write_things

LINE = {
    **THING_LINE,
    "drift": {"window": "7d"},
    "retrain": {"triggers": [{"check": "no_thing_is_huge"}, {"check": "marts/fct_thing:labels_are_plausible"}]},
}

# All that a user writes of a plain check.
_PLAIN_CHECK = """
from pathlib import Path

import dagster as dg


@dg.asset_check(asset=dg.AssetKey(["marts", "fct_thing"]))
def labels_are_plausible() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=not Path({flag!r}).exists(), description="nearly all labels are true")


@dg.asset_check(asset=dg.AssetKey(["marts", "fct_thing"]), name="is_sound")
def labels_are_sound() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.asset_check(asset=dg.AssetKey(["features", "feat_thing"]), name="is_sound")
def features_are_sound() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)
"""

# All that a user writes of a dbt test.
_DBT_TEST = "{{ config(severity='warn') }} select id from {{ ref('feat_thing') }} where x > 100"


class World:
    """A small dbt project with one line, on Dagster's real record."""

    def __init__(self, sandbox: Sandbox, instance: dg.DagsterInstance, line: dict[str, Any], has_rows: bool = True) -> None:
        self.flag = sandbox.root / "bad"
        self.instance = instance
        self.lake = Lake(sandbox.settings.lake)
        self.settings = sandbox.settings
        if has_rows:
            write_bronze(self.lake, huge=False)
        FactoryClock(Path(sandbox.settings.clock)).set(NOW + timedelta(hours=15))  # the ninth has closed in New York
        write_project(sandbox.root / "small")
        (sandbox.package / "defs" / "own_checks.py").write_text(_PLAIN_CHECK.format(flag=str(self.flag)))
        sandbox.declare("dbt", "DbtProject", {"path": "small/project"})
        sandbox.declare("delay", "ModelLine", line)
        self.definitions = sandbox.build()
        self.resources = build_resources(sandbox.settings)

    def run(self, job: str, **keys: Any) -> dg.ExecuteInProcessResult:
        return self.definitions.resolve_job_def(job).execute_in_process(instance=self.instance, **keys)

    def daily(self, day: str, last: str = "") -> dg.ExecuteInProcessResult:
        return self.run(DAILY_JOB, tags=range_tags(day, last or day))

    def tick(self, sensor: str) -> Any:
        context = dg.build_sensor_context(instance=self.instance, resources=self.resources)
        return self.definitions.resolve_sensor_def(sensor)(context)

    def scored_days(self) -> set[str]:
        found = self.lake.find("predictions/delay")
        if found is None:
            return set()
        rows = self.lake.query("select distinct prediction_date::varchar as day from t", t=found)
        return set(rows.column("day").to_pylist())


def write_bronze(lake: Lake, huge: bool) -> None:
    """Things of 60 days with their labels, all in one raw table; one of them is huge or none."""
    made = Lake(f"{lake.root}_made")
    write_things(made)
    x = "case when id = 100 and ? then 1000 else x end as x"
    sql = f'select id, f."at", {x}, f.kind, l.late, l.known_at from f join l using (id) order by id'
    rows = made.query(sql, [huge], f=made.pin("features/feat_thing"), l=made.pin("marts/fct_thing"))
    write_deltalake(f"{lake.root}/bronze/events", rows, mode="overwrite")


def write_project(folder: Path) -> None:
    project = make_sandbox(folder).project
    columns = {"features/feat_thing": 'id, "at", x, kind', "marts/fct_thing": "id, late, known_at"}
    for place, listed in columns.items():
        schema, name = place.split("/")
        (project / "models" / schema).mkdir()
        settings = f"{{{{ config(materialized='delta', schema='{schema}') }}}}\n"
        (project / "models" / schema / f"{name}.sql").write_text(
            f"{settings}select {listed} from {{{{ source('bronze', 'events') }}}}"
        )
        text = yaml.safe_dump({"version": 2, "models": [{"name": name}]})
        (project / "models" / schema / f"{name}.yml").write_text(text)
    (project / "tests").mkdir()
    (project / "tests" / "no_thing_is_huge.sql").write_text(_DBT_TEST)


@pytest.fixture
def instance(tmp_path: Path) -> Any:
    with dg.DagsterInstance.ephemeral(str(tmp_path)) as instance:
        yield instance


def test_own_checks_are_causes_in_the_ledger_with_no_code_beyond_their_own(sandbox: Sandbox, instance: Any) -> None:
    world = World(sandbox, instance, LINE)
    world.daily("2013-02-08")
    assert "No check that starts a retrain is failing" in str(
        world.tick("delay__retraining_sensor").skip_reason.skip_message
    )
    write_bronze(world.lake, huge=True)
    world.flag.touch()
    world.daily("2013-02-08")
    answer = world.tick("delay__retraining_sensor")
    (request,) = answer.run_requests
    assert request.tags[CAUSE_TAG] == "marts/fct_thing:labels_are_plausible, no_thing_is_huge"
    assert request.tags["factory/check/no_thing_is_huge"].split("@")[0].isdigit()
    entries = {entry.cause.trigger: entry for entry in RetrainLedger(world.lake).entries("delay")}
    assert set(entries) == {"marts/fct_thing:labels_are_plausible", "no_thing_is_huge"}
    assert entries["marts/fct_thing:labels_are_plausible"].summary == "nearly all labels are true"


def test_days_wait_for_a_broken_feed_and_for_an_own_check_also_after_a_promotion(sandbox: Sandbox, instance: Any) -> None:
    world = World(sandbox, instance, {**LINE, "blocked_by": ["labels_are_plausible", "no_thing_is_huge"]})
    incidents = Incidents(world.lake)
    incidents.write([an_incident(source="events", day=date(2013, 2, 8))])
    world.daily("2013-02-01")
    assert world.run("delay__retrain").success
    assert {"2013-02-07", "2013-02-09"} <= world.scored_days()
    assert "2013-02-08" not in world.scored_days()
    assert not world.daily("2013-02-08").asset_materializations_for_node("delay__predictions")
    assert str(world.tick("delay__left_days_sensor").skip_message) == "No day was left unscored."

    # Accepted by a person, it waits until its files are published; then it is scored as any other day.
    accepting = CliRunner().invoke(app, ["accept", "events", "2013-02-08", "--because", "right after all"])
    assert accepting.exit_code == 0, accepting.output
    world.daily("2013-02-08")
    assert "2013-02-08" not in world.scored_days()
    incidents.write([replace(incidents.read_open()[0], state="published")])
    world.daily("2013-02-07", "2013-02-08")  # over a range, of which Dagster plans the checks once a day
    assert "2013-02-08" in world.scored_days()

    # A failing check of the user's own stops all scoring, until it passes; what was left out is then scored by itself.
    world.lake.pin("predictions/delay").handle.delete("prediction_date in ('2013-02-08', '2013-02-09')")
    world.flag.touch()
    world.daily("2013-02-08")
    assert "2013-02-08" not in world.scored_days()
    assert "labels_are_plausible has failed: nearly all" in str(world.tick("delay__left_days_sensor").skip_message)
    world.flag.unlink()
    world.daily("2013-02-07")
    (request,) = world.tick("delay__left_days_sensor").run_requests
    assert (request.tags[RANGE_START_TAG], request.tags[RANGE_END_TAG]) == ("2013-02-08", "2013-02-09")
    world.run(DAILY_JOB, tags=request.tags, asset_selection=request.asset_selection)
    assert {"2013-02-08", "2013-02-09"} <= world.scored_days()
    assert str(world.tick("delay__left_days_sensor").skip_message) == "No day was left unscored."


def test_a_name_that_is_no_own_check_is_said_with_file_key_and_near_matches(sandbox: Sandbox, instance: Any) -> None:
    triggers = [{"check": "no_thing_is_hug"}, {"check": "is_sound"}, "model_age"]
    world = World(sandbox, instance, {**LINE, "retrain": {"triggers": triggers}, "blocked_by": ["labels_are_plausibl"]})
    said = problems_of(world.definitions, "delay")
    place = f"{sandbox.package.name}/defs/delay/defs.yaml"
    written = (sandbox.root / place).read_text(encoding="utf-8").splitlines()
    line = written.index("    - check: no_thing_is_hug") + 1
    assert f"{place}:{line}: retrain.triggers.0.check: 'no_thing_is_hug' is no check of your own" in said
    assert "did you mean 'no_thing_is_huge'" in said
    assert "retrain.triggers.1.check: 'is_sound' is the name of several checks: write one of" in said
    assert "features/feat_thing:is_sound, marts/fct_thing:is_sound" in said
    assert "blocked_by.0: 'labels_are_plausibl' is no check of your own" in said
