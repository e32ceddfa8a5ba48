"""A thousand segments in MLflow, found by the very searches that docs/how-to/declare-a-fleet.md gives to be typed."""

import re
import sqlite3
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pytest

from factory_assets.lines.stores import LineStores
from factory_assets.lines.training import train_line
from factory_assets.storage.artefact_store import ArtefactStore
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.mlflow.registry import MlflowRegistry, RegisteredVersion
from factory_assets.storage.mlflow.segments import MlflowSegments, SegmentRecord, SegmentRuns
from tests.lines.conftest import START, empty_mlflow  # noqa: F401
from tests.lines.fleet_fixture import DAYS, fleet_spec, write_fleet

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "declare-a-fleet.md"
SEGMENT = "UA~1545~EWR~IAH"
SEGMENTS = [f"{'UA' if number % 2 else 'B6'}~{number}~EWR~IAH" for number in range(1000, 2000)]
PROMOTED = set(SEGMENTS[5::20])
FALLEN_BACK = "UA~1005~EWR~IAH"
GOOD = set(SEGMENTS[5::50])
VERSION = 3


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Any:  # noqa: F811
    """The line `delay`, whose version 3 trained a thousand segments, promoted fifty of them, and has served 49 since."""
    folder = tmp_path_factory.mktemp("thousand")
    with sqlite3.connect(empty_mlflow) as source, sqlite3.connect(folder / "mlflow.db") as target:
        source.backup(target)
    registry = MlflowRegistry(f"sqlite:///{folder / 'mlflow.db'}", str(folder / "artifacts"))
    plain = fleet_spec(mlflow={"per_segment": "none"})
    stores = LineStores(plain, Lake(str(folder / "lake")), ArtefactStore(folder / "models"), registry)
    write_fleet(stores.lake)
    now = START + timedelta(days=DAYS)
    stores.training_sets.build(now)
    train_line(stores, now, "run")
    client = registry.client()
    found = client.get_model_version("delay", "1")
    fleet = RegisteredVersion(VERSION, str(found.run_id), str(found.source), is_new=True)
    entries = MlflowSegments(registry, "delay")
    runs = SegmentRuns(fleet.run_id, "cycle", client.get_run(fleet.run_id).info.experiment_id, {})
    entries.log(fleet, runs, [record(segment) for segment in SEGMENTS], amended=())
    for serving in (PROMOTED, PROMOTED - {FALLEN_BACK}):
        entries.point_champions(dict.fromkeys(serving, VERSION), PROMOTED)
    return SimpleNamespace(client=client, fleet=fleet, stores=stores)


def record(segment: str) -> SegmentRecord:
    promoted = segment in PROMOTED
    return SegmentRecord(
        segment=segment,
        promoted=promoted,
        metrics={"roc_auc": 0.9 if segment in GOOD else 0.7},
        params={},
        tags={"factory.gate": "promoted" if promoted else "kept_champion"},
    )


def searches(box: str) -> set[str]:
    """What the page gives to be typed into one of the search boxes."""
    rows = re.findall(r"^\| ([^|]*)\| (`.*`) \| [^|]* \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    found, current = set(), ""
    for name, search in rows:
        current = name.strip() or current
        if current == box:
            found.add(search.removeprefix("``").removesuffix("``") if search.startswith("``") else search.strip("`"))
    return found


def test_each_search_of_the_page_finds_the_runs_that_it_says(thousand: Any) -> None:
    expected = {
        "tags.`factory.segment` = 'UA~1545~EWR~IAH'": {SEGMENT},
        "tags.`factory.segment` LIKE 'UA~%'": {segment for segment in SEGMENTS if segment.startswith("UA~")},
        "tags.`factory.gate` = 'promoted' and tags.`factory.segment` LIKE '%'": PROMOTED,
        "metrics.roc_auc > 0.8 and tags.`factory.segment` LIKE '%'": GOOD,
        "tags.`mlflow.parentRunId` = '<run id>'": set(SEGMENTS),
    }
    assert searches("runs of the line") == set(expected)
    experiment = thousand.client.get_experiment_by_name("delay").experiment_id
    for search, segments in expected.items():
        typed = search.replace("<run id>", thousand.fleet.run_id)
        found = thousand.client.search_runs([experiment], typed, max_results=2000)
        assert sorted(run.data.tags["factory.segment"] for run in found) == sorted(segments), search


def test_each_search_of_the_page_finds_the_models_and_versions_that_it_says(thousand: Any) -> None:
    models = {
        "tags.`factory.segment` = 'UA~1545~EWR~IAH'": {SEGMENT},
        "tags.`factory.segment` LIKE 'UA~%'": {segment for segment in PROMOTED if segment.startswith("UA~")},
    }
    versions = {
        "tags.`factory.segment` = 'UA~1545~EWR~IAH'": {SEGMENT},
        "name LIKE 'delay.%' and tags.`factory.version` = '3'": PROMOTED,
        "name LIKE 'delay.%' and tags.`factory.serves` = 'true'": PROMOTED - {FALLEN_BACK},
    }
    assert searches("registered models") == {"UA~1545", *models}
    assert searches("model versions (client)") == set(versions)
    for search, segments in models.items():
        found = thousand.client.search_registered_models(search, max_results=1000)
        assert {model.tags["factory.segment"] for model in found} == segments, search
    for search, segments in versions.items():
        found = thousand.client.search_model_versions(search, max_results=1000)
        assert {version.tags["factory.segment"] for version in found} == segments, search


def test_the_champion_of_a_segment_is_loaded_by_its_alias_with_the_ordinary_client(thousand: Any) -> None:
    assert thousand.client.get_model_version_by_alias(f"delay.{SEGMENT}", "champion").tags["factory.version"] == "3"
    assert thousand.client.get_registered_model(f"delay.{FALLEN_BACK}").aliases == {}
    training_sets = thousand.stores.training_sets
    rows = training_sets.read(training_sets.pin().table).slice(0, 40).to_pandas()[["carrier", "route", "x", "noise"]]
    loaded = mlflow.pyfunc.load_model(f"models:/delay.{SEGMENT}@champion")
    np.testing.assert_array_equal(loaded.predict(rows), mlflow.pyfunc.load_model("models:/delay/1").predict(rows))
