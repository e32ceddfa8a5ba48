"""A fleet as it is seen and started in Dagster: a cell a segment, red where it failed, and the door to train chosen ones."""

import sqlite3
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from factory_assets.components.model_line import retrain_step
from factory_assets.components.model_line.fleet import build_failed_segments_check
from factory_assets.components.model_line.training import build_models_asset, build_segments_asset, build_training_set_asset
from factory_assets.components.naming import (
    FOUND_BY_TAG,
    RANGE_EVENTS_SWITCH,
    models_step,
    segment_partitions,
    segments_key,
    training_set_key,
)
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.core.training import segment_training
from factory_assets.lines.stores import LineStores
from factory_assets.resources import build_resources
from factory_assets.settings import FactorySettings
from factory_assets.storage.artefact_store import ArtefactStore
from factory_assets.storage.clock import FactoryClock
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.mlflow.registry import MlflowRegistry
from factory_assets.storage.tables.costs import Costs
from tests.lines.conftest import START, empty_mlflow  # noqa: F401
from tests.lines.fleet_fixture import DAYS, fleet_spec, write_fleet

NOW = START + timedelta(days=DAYS)
SPEC = fleet_spec()
SEGMENTS = segments_key(SPEC.name)
UNTRAINED = {"ZZ~a%2Fb", "ZZ", "UA~always%20late"}
TRAINED = {"AA~r1", "AA~r2", "UA~r1", "UA~r2", "AA", "UA", "all"}


class Fleet:
    """A small fleet on an instance of its own, and the runs that a person can start on it."""

    def __init__(self, folder: Path) -> None:
        self.settings = FactorySettings(data_dir=folder)
        registry = MlflowRegistry(self.settings.mlflow_uri, self.settings.mlflow_artifacts)
        self.stores = LineStores(SPEC, Lake(self.settings.lake), ArtefactStore(self.settings.models), registry)
        self.instance = dg.DagsterInstance.ephemeral(tempdir=str(folder))
        # Its end lies before any day that could be scored.
        calendar = CalendarSpec(start=date(2015, 1, 1))
        self.training_set, self.models = build_training_set_asset(SPEC), build_models_asset(SPEC, calendar)
        self.segments = build_segments_asset(SPEC, calendar)
        self.check = build_failed_segments_check(SPEC)
        FactoryClock(self.settings.clock).set(NOW)
        self.change()

    def change(self, segment: str = "") -> None:
        write_fleet(self.stores.lake, changed=segment)

    def retrain(self, *segments: str) -> dg.ExecuteInProcessResult:
        config = {"ops": {models_step(SPEC.name): {"config": {"segments": list(segments)}}}}
        return self._run([self.training_set, self.models, self.check], run_config=config)

    def materialize(self, first: str, last: str = "") -> dg.ExecuteInProcessResult:
        """As the UI does when partitions of `<line>/segments` are chosen."""
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first}
        return self._run([self.segments], tags=tags)

    def cells(self) -> SimpleNamespace:
        """The partitions as the UI paints them."""
        partitions = dg.DynamicPartitionsDefinition(name=segment_partitions(SPEC.name))
        keys = self.instance.get_dynamic_partitions(segment_partitions(SPEC.name))
        painted = self.instance.get_status_by_partition(SEGMENTS, keys, partitions) or {}
        named = {key: status.name for key, status in painted.items() if status is not None}
        return SimpleNamespace(
            green={key for key, name in named.items() if name == "MATERIALIZED"},
            red={key for key, name in named.items() if name == "FAILED"},
        )

    def newest(self, segment: str) -> dict[str, Any]:
        """What the newest materialization of a cell tells."""
        wanted = dg.AssetRecordsFilter(SEGMENTS, asset_partitions=[segment])
        (record,) = self.instance.fetch_materializations(wanted, limit=1).records
        assert record.asset_materialization is not None
        return {name: value.value for name, value in record.asset_materialization.metadata.items()}

    def materialized_in(self, run_id: str) -> list[str | None]:
        """The cells that a run materialized."""
        entries = self.instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        events = [entry.get_dagster_event() for entry in entries]
        return [event.partition for event in events if event.asset_key == SEGMENTS]

    def told(self, segment: str) -> list[tuple[Any, Any]]:
        """State and reason of each observation of a cell, the newest first."""
        wanted = dg.AssetRecordsFilter(SEGMENTS, asset_partitions=[segment])
        records = self.instance.fetch_observations(wanted, limit=10).records
        found = [record.event_log_entry.asset_observation for record in records]
        return [(o.metadata["state"].value, o.metadata["reason"].value) for o in found if o is not None]

    def last_run(self) -> dg.DagsterRun:
        (run,) = self.instance.get_runs(limit=1)
        return run

    def _run(self, assets: list[Any], **more: Any) -> dg.ExecuteInProcessResult:
        resources = build_resources(self.settings)
        return dg.materialize(assets, instance=self.instance, resources=resources, raise_on_error=False, **more)


@pytest.fixture
def fleet(tmp_path: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:  # noqa: F811
    monkeypatch.setenv(RANGE_EVENTS_SWITCH, "true")  # as every installation has it
    settings = FactorySettings(data_dir=tmp_path)
    database = Path(settings.mlflow_uri.removeprefix("sqlite:///"))
    database.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(empty_mlflow) as source, sqlite3.connect(database) as target:
        source.backup(target)
    return Fleet(tmp_path)


@pytest.fixture
def choke(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets the training of these segments fail; none lets them all succeed again."""
    fit = segment_training.fit_and_evaluate

    def set_up(*segments: str) -> None:
        def fit_or_fail(spec: Any, split: Any, *rest: Any, **more: Any) -> Any:
            if {name.rsplit("-", 1)[0] for name in split.train["id"].to_pylist()} in [{segment} for segment in segments]:
                raise FloatingPointError("a bad one")
            return fit(spec, split, *rest, **more)

        monkeypatch.setattr(segment_training, "fit_and_evaluate", fit_or_fail)

    return set_up


def fail(*_: Any) -> None:
    raise RuntimeError("as if it were killed here")


def test_a_cycle_paints_a_cell_for_each_trained_segment_with_what_became_of_it(fleet: Fleet) -> None:
    assert fleet.retrain().success
    assert fleet.cells() == SimpleNamespace(green=TRAINED, red=set())
    shown = fleet.newest("AA~r1")
    assert (shown["state"], shown["version"], shown["promoted"], shown["serves"]) == ("fitted", 1, True, True)
    assert shown["roc_auc"] > shown["parent_roc_auc"]
    assert (shown["champion_version"], shown["cause"]) == (1, "started by hand")
    assert (shown["trained_at"], shown["trained_in_this_run"]) == (NOW.timestamp(), True)
    assert shown["reason"]


def test_in_an_ordinary_retrain_a_bad_segment_is_red_with_its_reason_and_all_others_are_green(
    fleet: Fleet, choke: Callable[..., None]
) -> None:
    choke("AA~r2")
    result = fleet.retrain()
    assert result.success
    assert fleet.cells() == SimpleNamespace(green=TRAINED - {"AA~r2"}, red={"AA~r2"})
    (run,) = fleet.instance.get_runs(dg.RunsFilter(tags={FOUND_BY_TAG: result.run_id}))
    assert run.status == dg.DagsterRunStatus.FAILURE
    failures = fleet.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    assert "AA~r2: FloatingPointError: a bad one" in str(failures[0].dagster_event.step_failure_data.error)
    (evaluation,) = result.get_asset_check_evaluations()
    assert (evaluation.passed, evaluation.metadata["failing_segments"].value) == (False, ["AA~r2"])


def test_the_next_retrain_tries_only_the_red_cell_and_success_turns_it_green(
    fleet: Fleet, choke: Callable[..., None]
) -> None:
    choke("AA~r2")
    fleet.retrain()
    choke()
    result = fleet.retrain()
    assert fleet.materialized_in(result.run_id) == ["AA~r2"]
    assert fleet.cells() == SimpleNamespace(green=TRAINED, red=set())


def test_all_that_failed_are_red_by_one_run_neighbours_or_not(fleet: Fleet, choke: Callable[..., None]) -> None:
    choke("AA~r1", "UA~r1", "UA~r2")
    result = fleet.retrain()
    assert fleet.cells().red == {"AA~r1", "UA~r1", "UA~r2"}
    assert len(fleet.instance.get_runs(dg.RunsFilter(tags={FOUND_BY_TAG: result.run_id}))) == 1


def test_a_segment_without_a_model_has_a_grey_cell_that_says_why_once(fleet: Fleet) -> None:
    fleet.retrain()
    partitions = fleet.instance.get_dynamic_partitions(segment_partitions(SPEC.name))
    assert set(partitions) - TRAINED == UNTRAINED
    assert fleet.cells().green == TRAINED
    assert fleet.told("ZZ~a%2Fb") == [("too_small", "20 training rows, and segments.min_rows is 40")]
    fleet.change("AA~r1")
    fleet.retrain()
    assert len(fleet.told("ZZ~a%2Fb")) == 1


def test_what_a_killed_run_decided_is_shown_by_the_next_as_it_was_decided(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.retrain()
    fleet.change("AA~r1")
    with monkeypatch.context() as patch:
        patch.setattr(retrain_step, "show_segments", fail)
        killed = fleet.retrain()
    assert not killed.success
    assert fleet.newest("AA~r1")["version"] == 1
    assert fleet.retrain().success
    shown = fleet.newest("AA~r1")
    assert (shown["version"], shown["cause"], shown["trained_in_this_run"]) == (2, f"decided in run {killed.run_id}", False)
    assert fleet.newest("UA~r2")["version"] == 1


def test_chosen_cells_are_trained_on_the_rows_of_now_through_the_asset_of_the_segments_alone(fleet: Fleet) -> None:
    fleet.retrain()
    before = fleet.stores.versions.standing(SPEC.name).segments["UA~r1"].cycle
    fleet.change("UA~r1")
    result = fleet.materialize("UA~r1")
    assert result.success
    assert [event.asset_key for event in result.get_asset_materialization_events()] == [training_set_key(SPEC.name)]
    assert fleet.materialized_in(result.run_id) == ["UA~r1"]
    assert fleet.stores.versions.standing(SPEC.name).segments["UA~r1"].cycle != before


def test_a_chosen_cell_that_needed_no_training_is_told_as_it_stands(fleet: Fleet) -> None:
    fleet.retrain()
    looked_at = fleet.materialize("AA~r1")
    assert looked_at.get_asset_materialization_events() == []
    assert fleet.materialized_in(looked_at.run_id) == ["AA~r1"]
    shown = fleet.newest("AA~r1")
    assert (shown["champion_version"], shown["trained_at"]) == (1, NOW.timestamp())
    assert shown["trained_in_this_run"] is False


def test_a_chosen_segment_that_fails_fails_the_run_and_turns_only_its_cell_red(
    fleet: Fleet, choke: Callable[..., None]
) -> None:
    fleet.retrain()
    fleet.change("AA~r1")
    choke("AA~r1")
    result = fleet.materialize("AA~r1", "AA~r2")
    assert not result.success
    assert fleet.cells() == SimpleNamespace(green=TRAINED - {"AA~r1"}, red={"AA~r1"})


def test_the_costs_of_a_cycle_are_shared_out_by_segment_and_add_up_to_the_whole(fleet: Fleet) -> None:
    result = fleet.retrain()
    rows = Costs(fleet.stores.lake).rows("run_id = ? and kind = 'models'", [result.run_id])
    assert {row["segment"] for row in rows} >= TRAINED
    assert len({row["cpu_seconds"] for row in rows}) > 1
    fleet.retrain()
    (idle,) = Costs(fleet.stores.lake).rows("run_id = ? and kind = 'models'", [fleet.last_run().run_id])
    assert idle["segment"] == "all"
