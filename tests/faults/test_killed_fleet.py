"""kill -9 before and after every step of a fleet's cycle: each segment has its old champion or its new one, never none."""

import multiprocessing
import signal
import sqlite3
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from factory_assets.components.naming import segments_key
from factory_assets.lines.serving import open_fleet
from factory_assets.settings import FactorySettings
from tests.faults.fleet_child import DECIDES, STEPS, open_fleet_stores, open_instance, train_and_die
from tests.lines.conftest import empty_mlflow  # noqa: F401 (a fixture)
from tests.lines.fleet_fixture import write_fleet

# Every fork comes from a process that has imported all, and opened nothing.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.faults.fleet_child", "mlflow.pyfunc"])


def run_child(root: Path, step: int = -1, after: bool = False) -> int | None:
    child = _FORKS.Process(target=train_and_die, args=(root, step, after))
    child.start()
    child.join(300)
    return child.exitcode


def serving(root: Path) -> dict[str, tuple[int, str]]:
    """What serves each segment now, loaded from its file to be sure."""
    stores = open_fleet_stores(root)
    standing = stores.versions.standing("delay")
    fleet = open_fleet(stores, standing)
    for model in fleet.models.values():
        fleet.load(model)
    return {segment: (champion.version, champion.artefact_sha256) for segment, champion in standing.serving.items()}


def read_cell(root: Path, segment: str) -> tuple[Any, Any]:
    """The champion that a segment's cell tells of, and whether it serves."""
    with open_instance(root) as instance:
        wanted = dg.AssetRecordsFilter(segments_key("delay"), asset_partitions=[segment])
        (record,) = instance.fetch_materializations(wanted, limit=1).records
    assert record.asset_materialization is not None
    told = record.asset_materialization.metadata
    return told["champion_version"].value, told["serves"].value


@pytest.fixture
def trained(tmp_path: Path, empty_mlflow: Path) -> Path:  # noqa: F811
    """A fleet after its first cycle, with new rows for two of its segments."""
    database = Path(FactorySettings(data_dir=tmp_path).mlflow_uri.removeprefix("sqlite:///"))
    database.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(empty_mlflow) as source, sqlite3.connect(database) as target:
        source.backup(target)
    stores = open_fleet_stores(tmp_path)
    write_fleet(stores.lake)
    assert run_child(tmp_path) == 0
    write_fleet(stores.lake, changed="AA~r1")
    return tmp_path


def test_every_segment_has_its_old_or_its_new_champion_after_any_kill(trained: Path) -> None:
    old = serving(trained)
    assert len(old) >= 3
    instants = [(step, after) for step in range(len(STEPS)) for after in (False, True)]
    new: dict[str, tuple[int, str]] = {}
    for step, after in instants:
        assert run_child(trained, step, after) == -signal.SIGKILL, STEPS[step]
        now = serving(trained)
        if step < DECIDES or (step == DECIDES and not after):
            assert now == old, STEPS[step]
        else:
            new = new or now
            assert now == new != old, STEPS[step]
    assert run_child(trained) == 0
    assert serving(trained) == new
    for segment, (version, _) in new.items():
        assert read_cell(trained, segment) == (version, True)
    client = open_fleet_stores(trained).registry.client()
    assert len(client.search_model_versions("name = 'delay'")) == 2
    entries = client.search_runs([client.get_experiment_by_name("delay").experiment_id], "attributes.status != 'KILLED'")
    assert all(run.info.status == "FINISHED" for run in entries)
    told = [(run.data.tags["factory.cycle"], run.data.tags.get("factory.segment")) for run in entries]
    assert len(told) == len(set(told)), "a cycle that is run again has one run for each segment"
    for segment, (version, sha256) in new.items():
        if segment != "all":
            shown = client.get_model_version_by_alias(f"delay.{segment}", "champion")
            assert (shown.tags["factory.version"], shown.tags["factory.artefact_sha256"]) == (str(version), sha256)
