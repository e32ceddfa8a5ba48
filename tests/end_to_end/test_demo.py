"""What the README promises of `make demo`, asked of the lake and of Dagster's record."""

import json
import shutil
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import dagster as dg
import pytest

from factory_assets.components.naming import CAUSE_TAG, REQUEST_TAG
from factory_assets.contracts.retraining import RESOLVED
from factory_assets.lines.summary import list_retrains, summarise
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.mlflow.registry import MlflowRegistry
from factory_assets.storage.tables.bronze import QUARANTINE
from factory_assets.storage.tables.check_results import CHECK_RESULTS
from factory_assets.storage.tables.model_versions import ModelVersions
from factory_assets.storage.tables.retrain_ledger import RetrainLedger
from factory_assets.storage.tables.training_cycles import TRAINING_CYCLES
from tests.end_to_end.conftest import ROOT, environment, run_factory

pytestmark = pytest.mark.slow
LINES = ["arrival_delay", "departure_volume"]
FLEET = "flight_delay_fleet"


@pytest.fixture
def lake(played_demo: Path) -> Lake:
    return Lake(str(played_demo / "lake"))


def test_real_drift_and_real_age_each_started_a_retrain(lake: Lake) -> None:
    causes = {(retrain.line, cause) for retrain in list_retrains(lake) for cause in retrain.causes}
    assert ("arrival_delay", "feature_drift") in causes
    aged = [r for r in list_retrains(lake) if r.line == "departure_volume" and r.causes == ("model_age",)]
    assert len(aged) >= 2  # the first one because it was never trained, the others because it grew old


def test_each_retrain_was_a_run_that_a_sensor_asked_for_once(played_demo: Path, lake: Lake) -> None:
    with dg.DagsterInstance.from_config(str(played_demo / "dagster")) as instance:
        for line in LINES:
            answers = [entry for entry in RetrainLedger(lake).entries(line) if entry.state in RESOLVED]
            assert answers
            for entry in answers:
                runs = instance.get_runs(dg.RunsFilter(tags={REQUEST_TAG: entry.run_key}))
                assert [run.run_id for run in runs] == [entry.run_id]
                assert runs[0].tags["dagster/sensor_name"] == f"{line}__retraining_sensor"
                assert runs[0].tags[CAUSE_TAG]


def test_no_cause_has_two_answers_and_each_tells_its_times(lake: Lake) -> None:
    for line in LINES:
        entries = RetrainLedger(lake).entries(line)
        answered = [entry.cause.key for entry in entries if entry.state in RESOLVED]
        assert len(answered) == len(set(answered))
        for key in answered:
            steps = [entry for entry in entries if entry.cause.key == key]
            # A cause that has to wait for a place says so in an opening of its own.
            states = [state for state, _ in groupby(step.state for step in steps)]
            assert states[:3] == ["open", "requested", "running"]
            assert steps[0].evaluated_at_utc is not None
            times = [steps[0].evaluated_at_utc, *(step.recorded_at_utc for step in steps)]
            assert times == sorted(times)


def test_every_champion_beats_the_dummy_and_serves_in_mlflow(played_demo: Path, lake: Lake) -> None:
    client = MlflowRegistry(f"sqlite:///{played_demo}/mlflow/mlflow.db", str(played_demo / "mlflow/artifacts")).client()
    for line in LINES:
        champion = ModelVersions(lake).champion(line)
        assert champion is not None
        evaluation = champion.evaluation
        better = evaluation.scores[evaluation.metric] - evaluation.dummy[evaluation.metric]
        assert (better > 0) == (line == "arrival_delay")  # higher AUC is better, lower error is better
        assert int(client.get_model_version_by_alias(line, "champion").version) == champion.version


def test_a_real_broken_sensor_value_went_to_quarantine(lake: Lake) -> None:
    (held,) = lake.rows(QUARANTINE)
    assert held["source"] == "weather"
    assert held["reason"] == "wind_speed: 1048.36058 is too large"


def test_predictions_say_which_model_and_which_features_made_them(lake: Lake) -> None:
    for row in summarise(lake, LINES):
        pinned = lake.pin(f"predictions/{row.line}")
        found = lake.query(
            "select count(*) as rows, count(distinct model_version) as models, count(*) filter (model_version is null "
            "or feature_set_version is null or dagster_run_id is null) as unknown from t",
            t=pinned,
        ).to_pylist()[0]
        assert found["rows"] == row.predictions > 0
        assert found["models"] >= 2
        assert found["unknown"] == 0


def test_hundreds_of_flights_were_fitted_and_the_fleet_serves_no_worse_than_its_global_model(lake: Lake) -> None:
    (cycle,) = lake.rows(TRAINING_CYCLES, "line = ?", [FLEET])
    assert cycle["fitted"] > 500
    assert cycle["failed"] == 0
    assert cycle["fleet_value"] >= cycle["global_value"]
    scores = lake.pin(f"predictions/{FLEET}")
    unknown = "count(*) filter (model_segment is null or model_version is null or segment is null) as unknown"
    (found,) = lake.query(f"select count(*) as rows, {unknown} from t", t=scores).to_pylist()
    assert found["rows"] == lake.pin("predictions/arrival_delay").row_count
    assert found["unknown"] == 0


def test_the_daemon_shows_every_part_of_the_loop_as_fresh(played_demo: Path) -> None:
    lines = [dg.AssetKey([line, asset]) for line in (*LINES, FLEET) for asset in ("models", "predictions")]
    keys = [dg.AssetKey(["bronze", "flights"]), dg.AssetKey(["features", "feat_flight_departure"]), *lines]
    with dg.DagsterInstance.from_config(str(played_demo / "dagster")) as instance:
        states = instance.get_freshness_state_records(keys)
        assert {key: states[key].freshness_state.value for key in keys} == dict.fromkeys(keys, "PASS")


@pytest.mark.parametrize("line", [*LINES, FLEET])
def test_every_scoring_of_the_kept_days_left_a_sample_and_training_has_the_same_features(line: str, lake: Lake) -> None:
    sampled = lake.pin("ops/feature_hashes")
    (oldest,) = lake.query("select min(as_of_utc) as at from t where line = ?", [line], t=sampled)["at"].to_pylist()
    kept = ((f"predictions/{line}", f"prediction_date > '{oldest:%Y-%m-%d}'"), (sampled.name, f"line = '{line}'"))
    scorings = {
        table: set(
            lake.query(f"select distinct scored_at_utc as at from t where {where}", t=lake.pin(table))["at"].to_pylist()
        )
        for table, where in kept
    }
    assert scorings[f"predictions/{line}"]
    assert scorings[f"predictions/{line}"] <= scorings[sampled.name]
    verdicts = sorted(
        lake.rows(CHECK_RESULTS, "line = ? and \"check\" = 'skew'", [line]), key=lambda v: v["evaluated_at_utc"]
    )
    numbers = json.loads(verdicts[-1]["numbers"])
    assert (verdicts[-1]["passed"], numbers["differing_rows"]) == (True, {})
    assert numbers["compared_rows"] > 100


def test_status_prints_the_table_again(played_demo: Path) -> None:
    shown = run_factory(played_demo, "status")
    assert shown.returncode == 0
    for line in [*LINES, FLEET]:
        assert line in shown.stdout


def test_the_demo_again_has_nothing_to_do(played_demo: Path, lake: Lake) -> None:
    before = {line: lake.pin(f"predictions/{line}").version for line in LINES}
    again = run_factory(played_demo, "demo")
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stdout
    assert {line: lake.pin(f"predictions/{line}").version for line in LINES} == before


def test_dbt_alone_makes_the_same_tables_from_the_same_bronze(played_demo: Path, lake: Lake, tmp_path: Path) -> None:
    """Plain `dbt build` in one go against six months of incremental runs in Dagster."""
    shutil.copytree(played_demo / "lake" / "bronze", tmp_path / "lake" / "bronze")
    flags = ["--target-path", str(tmp_path / "target"), "--log-path", str(tmp_path / "logs")]
    done = subprocess.run(
        [str(Path(sys.executable).with_name("dbt")), "build", *flags],
        cwd=ROOT / "dbt_project",
        env={**environment(played_demo), "FACTORY_LAKE_URI": str(tmp_path / "lake")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    alone = Lake(str(tmp_path / "lake"))
    tables = [f"{log.parent.parent.name}/{log.parent.name}" for log in (tmp_path / "lake").glob("[!o]*/*/_delta_log")]
    assert len(tables) == 16
    for table in tables:
        ours, theirs = lake.pin(table), alone.pin(table)
        assert ours.columns == theirs.columns
        differing = lake.query("(from a except from b) union all (from b except from a)", a=ours, b=theirs)
        assert differing.num_rows == 0, table
        assert ours.row_count == theirs.row_count, table
