"""A code location of one line with its real retrain job and sensor, for the daemon of `sensor_zygote`."""

import os
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from factory_assets.components.model_line.checks import build_checks
from factory_assets.components.model_line.retraining import build_retrain_job, build_retraining_sensor
from factory_assets.components.model_line.training import build_models_asset, build_training_set_asset
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.resources import ClockResource, LakeResource, MlflowResource
from tests.declared_lines import flight_line

NOW = datetime(2013, 7, 10, 14, tzinfo=UTC)
FOLDER = Path(os.environ.get("FAULT_FOLDER", "/nowhere"))
SPEC = flight_line(
    retrain={"triggers": ("feature_drift", "model_age"), "cooldown": "7d", "backoff": "10m"},
)


def build_resources() -> dict[str, dg.ConfigurableResource]:
    return {
        "lake": LakeResource(root=str(FOLDER / "lake"), landing=str(FOLDER), models=str(FOLDER)),
        "mlflow": MlflowResource(tracking_uri="sqlite:////nowhere", artifact_root="/nowhere"),
        "clock": ClockResource(path=str(FOLDER / "clock.json")),
    }


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions(
        assets=[
            build_training_set_asset(SPEC),
            build_models_asset(SPEC, CalendarSpec(start="2013-01-01", timezone="UTC")),
            dg.AssetSpec(["delay", "predictions"]),
        ],
        asset_checks=build_checks(SPEC),
        jobs=[build_retrain_job(SPEC)],
        sensors=[build_retraining_sensor(SPEC)],
        resources=build_resources(),
        executor=dg.in_process_executor,
    )
