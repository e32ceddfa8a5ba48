"""A month, day by day, through real Dagster runs and the real sensor; and the same month replayed without them."""

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from factory_assets.components.model_line.checks import build_checks, check_keys
from factory_assets.components.model_line.paybacks import build_paybacks_asset
from factory_assets.components.model_line.predictions import build_predictions_asset
from factory_assets.components.model_line.retraining import build_retrain_job, build_retraining_sensor
from factory_assets.components.model_line.training import build_models_asset, build_training_set_asset
from factory_assets.components.naming import paybacks_key, predictions_key
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.retraining import RESOLVED
from factory_assets.core.backtesting.moments import Moment
from factory_assets.resources import ClockResource, LakeResource, MlflowResource
from factory_assets.storage.clock import FactoryClock
from tests.lines.conftest import SPEC, write_things
from tests.lines.test_backtesting import CALENDAR, Arrivals, changed, moments, replay_of

pytestmark = pytest.mark.slow
POLICY = {"triggers": ["model_age", "feature_drift", "prediction_drift"], "cooldown": "4d"}
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class Month:
    """One line in real Dagster, on a lake on which each day's rows arrive when the day has closed."""

    def __init__(self, stores: Any, folder: Path, instance: dg.DagsterInstance) -> None:
        self.spec: ModelLineSpec = stores.spec
        self.stores, self.instance, self.arrivals = stores, instance, Arrivals(stores)
        self.clock = FactoryClock(folder / "clock.json")
        registry = stores.registry
        self.resources = {
            "lake": LakeResource(root=stores.lake.root, landing=str(folder), models=str(stores.artefacts.root)),
            "mlflow": MlflowResource(tracking_uri=registry.tracking_uri, artifact_root=registry.artifact_root),
            "clock": ClockResource(path=str(folder / "clock.json")),
        }
        self.sensor = build_retraining_sensor(self.spec)
        # As the hourly run does: the checks that start retrains, and whether promotions paid, which lengthens cooldowns.
        judged = dg.AssetSelection.checks(*(check_keys(self.spec)[kind] for kind in POLICY["triggers"]))
        judged |= dg.AssetSelection.assets(paybacks_key(self.spec.name))
        scoring = dg.define_asset_job("score", dg.AssetSelection.assets(predictions_key(self.spec.name)).without_checks())
        self.definitions = dg.Definitions(
            assets=[
                build_training_set_asset(self.spec),
                build_models_asset(self.spec, CALENDAR),
                build_predictions_asset(self.spec, CALENDAR),
                build_paybacks_asset(self.spec, False),
            ],
            asset_checks=build_checks(self.spec, CALENDAR),
            jobs=[build_retrain_job(self.spec), scoring, dg.define_asset_job("judge", judged)],
            resources=self.resources,
            executor=dg.in_process_executor,
        )

    def live(self, moment: Moment) -> None:
        self.arrivals.until(moment)
        self.clock.set(moment.now)
        self.run("score", partition_key=moment.day.isoformat())
        self.run("judge")
        for _ in range(5):
            answer = self.sensor(dg.build_sensor_context(instance=self.instance, resources=self.resources))
            if not answer.run_requests:
                return
            for request in answer.run_requests:
                self.run(f"{self.spec.name}__retrain", tags=dict(request.tags), run_config={**_QUIET, **request.run_config})
        raise AssertionError(f"the sensor asks again and again on {moment.day}")

    def run(self, job: str, **arguments: Any) -> None:
        definition = self.definitions.resolve_job_def(job)
        result = definition.execute_in_process(instance=self.instance, **{"run_config": _QUIET, **arguments})
        assert result.success

    def decided(self) -> list[tuple[date, set[str], str]]:
        requests: dict[str, tuple[date, set[str], str]] = {}
        for entry in self.stores.ledger.entries(self.spec.name):
            if entry.state in RESOLVED:
                known = requests.setdefault(entry.run_key, (entry.at_utc.date(), set(), str(entry.state)))
                known[1].add(entry.cause.trigger)
        return list(requests.values())


def test_the_replay_of_a_month_decides_as_dagster_did_on_each_of_its_days(stores, tmp_path: Path) -> None:
    write_things(stores.lake, shift=1.5)
    spec = changed(SPEC, retrain=POLICY, freshness={"model_max_age": "12d"})
    stores = replace(stores, spec=spec)
    replay, days = replay_of(stores), moments(29, 58)
    replay.play(days)
    with dg.DagsterInstance.ephemeral(str(tmp_path)) as instance:
        month = Month(stores, tmp_path, instance)
        for moment in days:
            month.live(moment)
    assert [(r.at_utc.date(), set(r.triggers), str(r.outcome)) for r in replay.retrains] == month.decided()
    triggers = set().union(*(retrain.triggers for retrain in replay.retrains))
    assert triggers >= {"model_age", "feature_drift"}
    assert len(replay.retrains) > 3
