import json
import shutil
from dataclasses import replace
from datetime import timedelta
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from factory_assets.core.models.artefacts import UntrustedArtefactError
from factory_assets.lines.judging import judge
from factory_assets.lines.planning import UnknownSegmentError
from factory_assets.lines.scoring import score_days
from factory_assets.lines.serving import open_fleet
from factory_assets.lines.training import train_line
from factory_assets.storage.tables.model_versions import PROMOTIONS, PromotionConflictError
from factory_assets.storage.tables.promotion_history import PromotionHistory
from tests.lines.conftest import START
from tests.lines.fleet_fixture import DAYS, fleet_spec, read_fleet, write_fleet
from tests.recorded import bundle

NOW = START + timedelta(days=DAYS)
OWN = {"AA~r1", "AA~r2"}


@pytest.fixture
def fleet(stores: Any) -> Any:
    write_fleet(stores.lake)
    return replace(stores, spec=fleet_spec())


def train(stores: Any, now: Any = NOW, segments: Any = ()) -> Any:
    stores.training_sets.build(now)
    return train_line(stores, now, "run", segments)


def decided(outcome: Any) -> dict[str, Any]:
    return {row["segment"]: row for row in outcome.decisions}


@pytest.fixture
def trained(fleet: Any) -> Any:
    return fleet, train(fleet)


def test_the_gate_says_which_level_serves_each_segment(trained) -> None:
    stores, outcome = trained
    rows = decided(outcome)
    serving = stores.versions.standing("delay").serving
    assert set(serving) >= OWN
    assert "all" in serving
    assert rows["UA~always%20late"]["outcome"] == "single_class"
    assert rows["ZZ~a%2Fb"]["outcome"] == "too_small"
    assert rows["ZZ~a%2Fb"]["reason"] == "20 training rows, and segments.min_rows is 40"
    kept_back = {key for key, row in rows.items() if row["outcome"] == "fitted" and not row["serves"]}
    assert kept_back
    for key in kept_back:
        assert rows[key]["reason"].startswith(("Left to its parent: ", "Not promoted: "))
        assert not rows[key]["promoted"]


def test_the_fleet_is_reported_beside_its_global_model_and_is_not_worse(trained) -> None:
    _, outcome = trained
    cycle = outcome.cycle
    assert cycle.exam_rows > 100
    assert cycle.fleet_value > cycle.global_value + 0.05


def test_unchanged_inputs_train_nothing_and_read_no_row(trained, monkeypatch) -> None:
    stores, first = trained
    read = []
    monkeypatch.setattr(type(stores.training_sets), "read", lambda *arguments: read.append(arguments))
    again = train(stores, NOW + timedelta(hours=5))
    assert (again.fitted, read) == (False, [])
    assert (again.cycle.version, again.decisions) == (first.cycle.version, first.decisions)


def test_only_the_segment_whose_rows_changed_is_trained_and_its_parents(trained) -> None:
    stores, _ = trained
    write_fleet(stores.lake, changed="UA~r1")
    outcome = train(stores)
    assert {key for key, row in decided(outcome).items() if row["outcome"] == "fitted"} == {"UA~r1", "UA", "all"}
    assert outcome.cycle.fitted == 3


def test_named_segments_are_trained_alone_and_compared_with_the_parents_as_they_are(trained) -> None:
    stores, _ = trained
    write_fleet(stores.lake, changed="AA~r1")
    outcome = train(stores, segments=["AA~r1"])
    assert set(decided(outcome)) == {"AA~r1"}
    row = decided(outcome)["AA~r1"]
    assert (row["outcome"], row["version"], row["champion_before"]) == ("fitted", 2, 1)
    assert row["parent_value"] < row["challenger_value"]
    assert stores.versions.champion("delay").version == 1


def test_a_segment_that_does_not_exist_is_named_with_the_spelling_of_those_that_do(trained) -> None:
    stores, _ = trained
    with pytest.raises(UnknownSegmentError, match=r"no labelled row of segment XX~r9: segments are named like .*~"):
        train(stores, segments=["XX~r9"])


def test_all_among_the_segments_is_the_whole_line(trained) -> None:
    stores, _ = trained
    write_fleet(stores.lake, changed="UA~r1")
    assert train(stores, segments=["all"]).cycle.fitted == 3


def test_one_bad_segment_is_one_failure_and_only_it_is_tried_again(fleet) -> None:
    # The parents would choke on the same row, so the fleet has none but the model of all rows, which sees a clean label.
    stores = replace(
        fleet, spec=fleet_spec(parents=[], estimator="sklearn.linear_model.Ridge", validation={"holdout": "16d"})
    )
    broken = replace(stores, spec=stores.spec.model_copy(update={"params": {"alpha": 1.0}}))
    import factory_assets.core.training.segment_training as module

    fit = module.fit_and_evaluate

    def choke(spec: Any, split: Any, *rest: Any, **more: Any) -> Any:
        if {name.split("-")[0] for name in split.train["id"].to_pylist()} == {"AA~r2"}:
            raise FloatingPointError("a bad one")
        return fit(spec, split, *rest, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "fit_and_evaluate", choke)
        first = train(broken)
    rows = decided(first)
    failed = {key: row["reason"] for key, row in rows.items() if row["outcome"] == "failed"}
    assert failed == {"AA~r2": "FloatingPointError: a bad one"}
    assert PromotionHistory(stores.lake).failed_segments("delay") == failed
    again = train(broken)
    assert set(decided(again)) == {"AA~r2"}
    assert decided(again)["AA~r2"]["outcome"] == "fitted"
    assert PromotionHistory(stores.lake).failed_segments("delay") == {}
    assert again.cycle.version == first.cycle.version + 1
    counts = [(found.tried, found.failed) for found in PromotionHistory(stores.lake).trainings("delay", 2)]
    assert counts == [(sum(row["outcome"] in ("fitted", "failed") for row in rows.values()), 1), (1, 0)]


def test_scores_say_which_model_gave_them_and_unseen_segments_are_scored_by_a_parent(trained) -> None:
    stores, _ = trained
    write_fleet(stores.lake, days=DAYS)
    day = (START + timedelta(days=5)).date()
    outcome = score_days(stores, [day], "UTC", NOW, "run-1")
    rows = stores.lake.query("select * from t", t=stores.lake.pin("predictions/delay")).to_pylist()
    serving = stores.versions.standing("delay").serving
    assert outcome.rows == len(rows) > 60
    assert outcome.unserved == 0
    for row in rows:
        segment, carrier = row["segment"], row["segment"].split("~")[0]
        expected = segment if segment in serving else carrier if carrier in serving else "all"
        assert (row["model_segment"], row["model_version"]) == (expected, serving[expected].version)
    assert outcome.by_parent == sum(row["segment"] != row["model_segment"] for row in rows) > 0
    assert "ZZ~a%2Fb" in {row["segment"] for row in rows}


def test_mlflow_scores_a_mixed_frame_as_the_factory_does(trained) -> None:
    stores, _ = trained
    table = stores.training_sets.read(stores.training_sets.pin().table)
    frame = table.select(["carrier", "route", "x", "noise"]).to_pandas().sample(300, random_state=0)
    score_days(stores, [(START + timedelta(days=d)).date() for d in range(DAYS)], "UTC", NOW, "run")
    loaded = mlflow.pyfunc.load_model("models:/delay@champion")
    scores = dict(
        zip(
            *stores.lake.query("select id, score from t", t=stores.lake.pin("predictions/delay")).to_pydict().values(),
            strict=True,
        )
    )
    ids = table.column("id").to_pandas().loc[frame.index]
    np.testing.assert_array_equal(loaded.predict(frame), [scores[name] for name in ids])


def test_a_promoted_segment_is_found_in_mlflow_and_loads_with_the_ordinary_client(trained) -> None:
    stores, outcome = trained
    client = stores.registry.client()
    promoted = {key for key, row in decided(outcome).items() if row["promoted"] and key != "all"}
    found = client.search_registered_models("tags.`factory.line` = 'delay'")
    assert {model.tags["factory.segment"] for model in found if "factory.segment" in model.tags} == promoted
    for segment in promoted:
        version = client.get_model_version_by_alias(f"delay.{segment}", "champion")
        assert version.tags["factory.version"] == "1"
        assert version.tags["factory.artefact_sha256"] == stores.versions.champion("delay", segment).artefact_sha256
    runs = client.search_runs([client.get_experiment_by_name("delay").experiment_id], "tags.`factory.segment` = 'AA~r1'")
    assert [run.data.tags["mlflow.parentRunId"] for run in runs] == [outcome.version.mlflow_run_id]
    assert runs[0].data.metrics["roc_auc"] == decided(outcome)["AA~r1"]["challenger_value"]
    table = stores.training_sets.read(stores.training_sets.pin().table)
    rows = table.filter(pa.compute.equal(table["route"], "r1")).slice(0, 40).to_pandas()
    rows = rows[rows["carrier"] == "AA"]
    fleet_model = mlflow.pyfunc.load_model("models:/delay@champion")
    alone = mlflow.pyfunc.load_model("models:/delay.AA~r1@champion")
    features = rows[["carrier", "route", "x", "noise"]]
    np.testing.assert_array_equal(alone.predict(features), fleet_model.predict(features))


def test_the_filters_of_mlflow_pages_find_any_segment_by_name_by_outcome_and_by_champion(trained) -> None:
    """The strings are those that docs/how-to/declare-a-fleet.md gives to be typed into the search boxes."""
    stores, outcome = trained
    client, decisions = stores.registry.client(), decided(outcome)
    experiment = client.get_experiment_by_name("delay").experiment_id

    def segments_of_runs(search: str) -> set[str]:
        return {run.data.tags["factory.segment"] for run in client.search_runs([experiment], search)}

    def segments_of_versions(search: str) -> set[str]:
        found = client.search_model_versions(search)
        return {version.tags["factory.segment"] for version in found}

    trained_ones = {key for key, row in decisions.items() if row["outcome"] == "fitted" and key != "all"}
    promoted = {key for key in trained_ones if decisions[key]["promoted"]}
    good = {key for key in trained_ones if decisions[key]["challenger_value"] > 0.8}
    assert promoted < trained_ones  # the difference is what a filter has to make
    assert good < trained_ones
    for segment in trained_ones:
        assert segments_of_runs(f"tags.`factory.segment` = '{segment}'") == {segment}
    assert segments_of_runs("tags.`factory.segment` LIKE 'UA~%'") == {key for key in trained_ones if key.startswith("UA~")}
    assert segments_of_runs("tags.`factory.gate` = 'promoted' and tags.`factory.segment` LIKE '%'") == promoted
    assert segments_of_runs("metrics.roc_auc > 0.8 and tags.`factory.segment` LIKE '%'") == good
    assert segments_of_runs(f"tags.`mlflow.parentRunId` = '{outcome.version.mlflow_run_id}'") == trained_ones
    for segment in promoted:
        assert segments_of_versions(f"tags.`factory.segment` = '{segment}'") == {segment}
    assert segments_of_versions("name LIKE 'delay.%' and tags.`factory.version` = '1'") == promoted
    assert segments_of_versions("tags.`factory.serves` = 'true' and name LIKE 'delay.%'") == {
        key for key in promoted if decisions[key]["serves"]
    }


def test_without_entries_of_single_segments_mlflow_has_the_fleet_alone(fleet) -> None:
    quiet = replace(fleet, spec=fleet_spec(mlflow={"per_segment": "none"}))
    outcome = train(quiet)
    client = quiet.registry.client()
    assert [model.name for model in client.search_registered_models()] == ["delay"]
    experiment = client.get_experiment_by_name("delay").experiment_id
    assert [run.info.run_id for run in client.search_runs([experiment])] == [outcome.version.mlflow_run_id]


def test_every_search_of_a_cycle_is_logged_whole_and_each_run_has_what_won(fleet) -> None:
    search = {"space": {"C": [0.5, 0.0001], "tol": [0.01]}, "budget": 3, "folds": 2}
    searching = replace(fleet, spec=fleet_spec(params={"C": 0.5}, search=search))
    outcome = train(searching)
    client = searching.registry.client()
    file = client.download_artifacts(outcome.version.mlflow_run_id, "searches.csv")
    trials = pd.read_csv(file)
    fitted = {key for key, row in decided(outcome).items() if row["outcome"] == "fitted"}
    assert set(trials["segment"]) == fitted
    assert len(trials) == 3 * len(fitted)
    assert (trials.groupby("segment")["won"].sum() == 1).all()
    won = trials[trials["won"]].set_index("segment")
    experiment = client.get_experiment_by_name("delay").experiment_id
    runs = client.search_runs([experiment], "tags.`factory.segment` LIKE '%'")
    assert {run.data.tags["factory.segment"] for run in runs} == fitted - {"all"}
    for run in runs:
        candidate = won.loc[run.data.tags["factory.segment"]]
        chosen = {"C": 0.5, "tol": "the estimator's default", **json.loads(candidate["params"])}
        told = {"candidate": str(candidate["candidate"]), **{name: str(value) for name, value in chosen.items()}}
        assert run.data.params == {f"search.{name}": value for name, value in told.items()}


def test_a_segment_that_falls_back_on_its_parent_loses_its_alias(trained) -> None:
    stores, _ = trained
    strict = replace(stores, spec=fleet_spec(segments={"min_rows": 5000, "confidence": 0.9}))
    train(strict)
    serving = stores.versions.standing("delay").serving
    client = stores.registry.client()
    for segment in OWN:
        aliases = client.get_registered_model(f"delay.{segment}").aliases
        assert ("champion" in aliases) == (segment in serving)
        version = client.get_model_version(f"delay.{segment}", "1")
        assert version.tags["factory.serves"] == str(segment in serving).lower()
        assert "factory.serves" not in client.get_run(version.run_id).data.tags


def test_one_model_file_a_cycle_holds_all_that_serves_and_unchanged_bytes_are_reused(trained) -> None:
    stores, first = trained
    write_fleet(stores.lake, changed="AA~r1")
    second = train(stores, segments=["AA~r1"])
    standing = stores.versions.standing("delay")
    (stores.artefacts.root / first.cycle.artefact_path).unlink()
    loaded = open_fleet(stores, standing)
    assert {model.segment for model in loaded.models.values() if loaded.load(model) is not None} == set(standing.serving)
    assert second.cycle.artefact_path != first.cycle.artefact_path


def test_a_swapped_model_in_the_file_is_not_loaded(trained) -> None:
    stores, outcome = trained
    serving = stores.versions.standing("delay").serving
    path = stores.artefacts.root / outcome.cycle.artefact_path
    path.write_bytes(bundle({champion.artefact_sha256: b"evil" for champion in serving.values()}))
    with pytest.raises(UntrustedArtefactError):
        score_days(stores, [START.date()], "UTC", NOW, "run")


@pytest.mark.parametrize("executor", ["processes"])
def test_the_number_of_workers_changes_nothing(fleet, tmp_path, executor, monkeypatch) -> None:
    monkeypatch.setattr("factory_assets.lines.fitting._LEAST_TO_FAN_OUT", 1)
    hashes = []
    for workers, where in ((1, "serial"), (2, executor)):
        lake = shutil.copytree(fleet.lake.root, tmp_path / f"lake-{where}")
        stores = replace(fleet, lake=type(fleet.lake)(str(lake)), workers=workers, spec=fleet_spec(executor=where))
        hashes.append(read_fleet(stores, train(stores)))
    assert hashes[0] == hashes[1]


def test_a_decision_on_a_state_that_has_moved_on_promotes_nothing(trained) -> None:
    stores, _ = trained
    before = stores.versions.standing("delay")
    write_fleet(stores.lake, changed="AA~r1")
    train(stores)
    count = len(stores.lake.rows(PROMOTIONS))
    with pytest.raises(PromotionConflictError, match="somebody else decided on it"):
        stores.versions.decide(before, 9, [], NOW, "run")
    assert len(stores.lake.rows(PROMOTIONS)) == count


def test_every_scoring_of_a_fleet_is_held_against_training_before_the_next_retrain(trained) -> None:
    stores, _ = trained
    compared = []
    for days in (8, 4):
        until = NOW - timedelta(days=days)
        score_days(stores, [until.date()], "UTC", NOW, "run")
        judged = judge(stores, "skew", NOW, "run")
        assert judged.passed
        compared.append(judged.numbers["compared_rows"])
    assert 0 < compared[0] < compared[1]
    write_fleet(stores.lake, moved=0.001)
    judged = judge(stores, "skew", NOW, "run")
    assert not judged.passed
    assert list(judged.numbers["differing_rows"]) == ["x"]
