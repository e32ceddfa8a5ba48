"""What the UI shows as late: the policies of the factory's assets, evaluated by Dagster on a real instance."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.loader import LoadingContextForTest
from dagster._core.test_utils import freeze_time
from dagster._daemon.freshness import FreshnessDaemon

from factory_assets.components.freshness_policies import features_policies, lag_policy, predictions_policy
from factory_assets.components.model_line.predictions import build_predictions_asset
from factory_assets.components.model_line.training import build_models_asset
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.contracts.model_line import FreshnessSpec, ModelLineSpec
from tests.components.test_retraining_sensor import SPEC

CALENDAR = CalendarSpec(start=date(2013, 1, 1), timezone="America/New_York")
MADE = datetime(2026, 3, 2, 10, 30, tzinfo=UTC)  # half past five in New York


def a_line(**freshness: Any) -> ModelLineSpec:
    return SPEC.model_copy(update={"freshness": FreshnessSpec(**freshness)})


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance as the factory makes one, from the settings that it ships."""
    settings = files("factory_assets").joinpath("dagster.yaml").read_text(encoding="utf-8")
    (tmp_path / "dagster.yaml").write_text(settings, encoding="utf-8")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


def state_at(instance: dg.DagsterInstance, asset: dg.AssetsDefinition, moment: datetime) -> FreshnessState:
    return evaluate(instance, AssetGraph.from_assets([asset]), asset.key, moment)


def evaluate(instance: dg.DagsterInstance, graph: AssetGraph, key: dg.AssetKey, moment: datetime) -> FreshnessState:
    """What the daemon makes of the asset, and keeps for the UI."""
    with freeze_time(moment):
        asyncio.run(FreshnessDaemon()._evaluate_asset(LoadingContextForTest(instance), graph.get(key)))
    return instance.get_freshness_state_records([key])[key].freshness_state


def made(instance: dg.DagsterInstance, key: dg.AssetKey, moment: datetime = MADE) -> None:
    with freeze_time(moment):
        instance.report_runless_asset_event(dg.AssetMaterialization(key))


def test_the_daemon_of_a_factory_evaluates_freshness(instance: dg.DagsterInstance) -> None:
    assert FreshnessDaemon.daemon_type() in instance.get_required_daemon_types()


def test_predictions_are_late_from_the_lines_deadline_on_and_fresh_once_made(instance: dg.DagsterInstance) -> None:
    asset = build_predictions_asset(a_line(predictions_by="06:00"), CALENDAR)
    assert state_at(instance, asset, MADE) is FreshnessState.UNKNOWN
    made(instance, asset.key)
    next_day = MADE + timedelta(days=1)
    assert state_at(instance, asset, next_day) is FreshnessState.PASS
    assert state_at(instance, asset, next_day + timedelta(minutes=31)) is FreshnessState.FAIL
    made(instance, asset.key, next_day + timedelta(hours=2))
    assert state_at(instance, asset, next_day + timedelta(hours=3)) is FreshnessState.PASS


def test_what_was_made_before_the_day_closed_is_not_its_delivery(instance: dg.DagsterInstance) -> None:
    asset = build_predictions_asset(a_line(predictions_by="06:00"), CALENDAR)
    made(instance, asset.key, datetime(2026, 3, 2, 4, 59, tzinfo=UTC))  # a minute before midnight
    assert state_at(instance, asset, MADE + timedelta(hours=1)) is FreshnessState.FAIL
    made(instance, asset.key, datetime(2026, 3, 2, 5, 0, tzinfo=UTC))
    assert state_at(instance, asset, MADE + timedelta(hours=1)) is FreshnessState.PASS


@pytest.mark.parametrize("deadline", ["00:00", "00:01", "23:59"])
def test_every_deadline_is_a_policy(deadline: str) -> None:
    assert predictions_policy(a_line(predictions_by=deadline), CALENDAR) != predictions_policy(a_line(), CALENDAR)


@pytest.mark.parametrize(("max_age", "state"), [("30d", FreshnessState.PASS), ("7d", FreshnessState.FAIL)])
def test_models_are_late_by_their_age(max_age: str, state: FreshnessState, instance: dg.DagsterInstance) -> None:
    asset = build_models_asset(a_line(model_max_age=max_age), CALENDAR)
    made(instance, asset.key)
    assert state_at(instance, asset, MADE + timedelta(days=8)) is state


@pytest.mark.parametrize(("max_lag", "state"), [("36h", FreshnessState.PASS), ("6h", FreshnessState.FAIL)])
def test_a_source_is_late_by_its_lag(
    max_lag: str, state: FreshnessState, instance: dg.DagsterInstance, sandbox: Any
) -> None:
    columns = {"id": {"type": "bigint"}, "at": {"type": "timestamp"}}
    declared = {"name": "things", "landing": "things.csv", "keys": ["id"], "columns": columns}
    sandbox.declare("sources/things", "DeltaSource", {**declared, "event_time": "at", "max_lag": max_lag})
    key = dg.AssetKey(["bronze", "things"])
    made(instance, key)
    assert evaluate(instance, sandbox.build().resolve_asset_graph(), key, MADE + timedelta(hours=12)) is state


def test_a_feature_set_is_late_by_the_most_impatient_of_its_lines() -> None:
    lines = [a_line(features_max_lag="36h"), a_line(features_max_lag="12h"), a_line(features_max_lag="2d")]
    assert features_policies(lines) == {"feat_flight": lag_policy(timedelta(hours=12))}
