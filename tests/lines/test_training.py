import shutil
from dataclasses import replace
from datetime import timedelta
from typing import Any

import mlflow
import numpy as np
import pytest

from factory_assets.core.models.artefacts import UntrustedArtefactError, pickle_model
from factory_assets.lines.training import train_line
from factory_assets.storage.artefact_store import ArtefactMissingError
from factory_assets.storage.tables.model_versions import MODEL_VERSIONS, PROMOTIONS
from factory_assets.storage.tables.training_sets import FeatureSetError
from tests.declared_lines import thing_line
from tests.lines.conftest import NOW, START, load_served, predict_as_served, write_things
from tests.recorded import bundle


def train(stores: Any, now: Any = NOW) -> Any:
    stores.training_sets.build(now)
    return train_line(stores, now, "run")


def test_a_training_set_holds_only_what_was_known(stores) -> None:
    stores.training_sets.build(NOW)
    rows = stores.lake.query(
        'select max("at") as "at", max(label_known_at_utc) as known_at, count(*) as n from t',
        t=stores.training_sets.pin().table,
    ).to_pylist()[0]
    assert rows["known_at"] <= NOW
    assert rows["at"] == NOW - timedelta(hours=2)
    assert rows["n"] == (NOW - START) // timedelta(hours=1) - 1


def test_a_training_set_remembers_the_versions_it_was_built_from(stores) -> None:
    stores.training_sets.build(NOW)
    write_things(stores.lake, shift=1.0)
    pinned = stores.training_sets.pin()
    assert (pinned.feature_set.version, pinned.labels.version, pinned.as_known_at_utc) == (0, 0, NOW)


def test_the_first_good_model_is_champion_in_delta_and_in_mlflow(stores) -> None:
    outcome = train(stores)
    assert outcome.decision.promote
    assert stores.versions.champion("delay") == outcome.version
    client = stores.registry.client()
    shown = client.get_model_version_by_alias("delay", "champion")
    assert int(shown.version) == outcome.version.version == 1
    assert shown.tags["factory.artefact_sha256"] == outcome.version.artefact_sha256
    run = client.get_run(outcome.version.mlflow_run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["roc_auc"] == outcome.version.evaluation.scores["roc_auc"]
    assert run.data.metrics["dummy_roc_auc"] == 0.5
    assert {"calibration.png", "importance.png"} <= {file.path for file in client.list_artifacts(run.info.run_id)}
    inputs = {dataset.dataset.name for dataset in run.inputs.dataset_inputs}
    assert inputs == {"training_sets/delay", "features/feat_thing", "marts/fct_thing"}
    tags = {tag.key: tag.value for dataset in run.inputs.dataset_inputs for tag in dataset.tags}
    assert tags["delta_version"] == "0"


def test_the_same_cycle_again_fits_nothing_and_registers_nothing(stores) -> None:
    first = train(stores)
    again = train(stores)
    assert (first.fitted, again.fitted) == (True, False)
    assert again.version == first.version
    assert again.decision == first.decision
    assert len(stores.registry.client().search_model_versions("name = 'delay'")) == 1
    assert len(stores.lake.rows(PROMOTIONS)) == 1


def test_killed_after_mlflow_the_cycle_keeps_its_version(stores) -> None:
    first = train(stores)
    stores.lake.replace(MODEL_VERSIONS, MODEL_VERSIONS.schema.empty_table())
    shutil.rmtree(stores.lake.uri(PROMOTIONS.name))
    again = train(stores)
    assert again.fitted
    assert (again.version.version, again.version.artefact_sha256) == (1, first.version.artefact_sha256)
    assert len(stores.registry.client().search_model_versions("name = 'delay'")) == 1


def test_killed_before_the_gate_the_decision_is_taken_later(stores) -> None:
    train(stores)
    shutil.rmtree(stores.lake.uri(PROMOTIONS.name))
    assert stores.versions.champion("delay") is None
    assert train(stores).decision.promote
    assert stores.versions.champion("delay").version == 1


def test_an_alias_that_was_lost_comes_back(stores) -> None:
    train(stores)
    client = stores.registry.client()
    client.delete_registered_model_alias("delay", "champion")
    train(stores)
    assert int(client.get_model_version_by_alias("delay", "champion").version) == 1


def test_a_challenger_that_is_no_better_leaves_the_champion_and_says_why(stores) -> None:
    champion = train(stores)
    worse = replace(stores, spec=stores.spec.model_copy(update={"features": ("kind",)}))
    outcome = train(worse, NOW + timedelta(days=1))
    assert not outcome.decision.promote
    assert outcome.decision.reason
    assert stores.versions.champion("delay") == champion.version
    shown = stores.registry.client().get_model_version("delay", str(outcome.version.version))
    assert shown.tags["factory.gate"] == "kept_champion"
    assert shown.tags["factory.gate_reason"] == outcome.decision.reason


def test_mlflow_loads_the_champion_and_scores_as_the_factory_does(stores) -> None:
    train(stores)
    frame = stores.training_sets.read(stores.training_sets.pin().table).to_pandas().tail(100)
    ours = predict_as_served(stores, frame)
    loaded = mlflow.pyfunc.load_model("models:/delay@champion")
    assert np.array_equal(loaded.predict(frame[["x", "kind"]]), ours)


def test_a_model_file_that_was_changed_is_not_loaded(stores) -> None:
    outcome = train(stores)
    path = stores.artefacts.root / outcome.version.artefact_path
    path.write_bytes(bundle({outcome.version.artefact_sha256: pickle_model("another")}))
    with pytest.raises(UntrustedArtefactError):
        load_served(stores)


def test_a_model_file_that_is_gone_is_named(stores) -> None:
    outcome = train(stores)
    (stores.artefacts.root / outcome.version.artefact_path).unlink()
    with pytest.raises(ArtefactMissingError, match=r"bundle is gone: restore it, or retrain"):
        load_served(stores)


def test_the_same_rows_and_declaration_give_the_same_bytes(stores, tmp_path) -> None:
    first = train(stores)
    stores.lake.replace(MODEL_VERSIONS, MODEL_VERSIONS.schema.empty_table())
    assert train(stores).version.artefact_sha256 == first.version.artefact_sha256


def test_a_changed_declaration_is_a_new_cycle(stores) -> None:
    train(stores)
    changed = replace(stores, spec=stores.spec.model_copy(update={"params": {"C": 0.01}}))
    assert train(changed).fitted


def test_a_feature_that_does_not_exist_is_named(stores) -> None:
    wrong = replace(stores, spec=stores.spec.model_copy(update={"features": ("y",)}))
    with pytest.raises(FeatureSetError, match=r"features/feat_thing has no column y. It has: id, at, x, kind"):
        train(wrong)


@pytest.mark.parametrize(
    ("drift", "said"),
    [
        ({"ignore": ["kind", "knd"]}, r"drift.ignore.1: there is no feature 'knd': did you mean 'kind'\? Correct"),
        ({"ignore": ["id"]}, "drift.ignore.0: there is no feature 'id'"),
        (
            {"features": {"label": {"threshold": 1}, "y": {"threshold": 1}}},
            "drift.features.y: there is no feature 'y': there are",
        ),
    ],
)
def test_a_name_in_drift_that_is_no_feature_is_told_with_the_nearest(stores, drift, said) -> None:
    with pytest.raises(FeatureSetError, match=said):
        replace(stores, spec=thing_line(drift=drift)).training_sets.build(NOW)


def test_a_champion_whose_file_is_gone_is_made_again_by_a_retrain(stores) -> None:
    outcome = train(stores)
    path = stores.artefacts.root / outcome.version.artefact_path
    path.unlink()
    again = train(stores)
    assert (again.fitted, again.decision.promote) == (True, True)
    assert again.version.artefact_sha256 == outcome.version.artefact_sha256
    assert path.is_file()


def test_a_champion_that_cannot_be_loaded_protects_nothing(stores) -> None:
    outcome = train(stores)
    (stores.artefacts.root / outcome.version.artefact_path).unlink()
    newer = train(stores, NOW + timedelta(days=1))
    assert newer.decision.promote
    assert "the champion has no value" in newer.decision.reason
