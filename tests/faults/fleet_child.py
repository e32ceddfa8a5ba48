"""A process that retrains a fleet in a Dagster run and kills itself, for good, before or after one of its steps."""

import os
import signal
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from factory_assets.components.model_line import retrain_step
from factory_assets.components.model_line.training import build_models_asset, build_training_set_asset
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.lines.stores import LineStores
from factory_assets.resources import build_resources
from factory_assets.settings import FactorySettings
from factory_assets.storage.artefact_store import ArtefactStore
from factory_assets.storage.clock import FactoryClock
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.mlflow import segments as mlflow_segments
from factory_assets.storage.mlflow.registry import MlflowRegistry
from factory_assets.storage.tables.drift_references import DriftReferences
from factory_assets.storage.tables.drift_samples import DriftSamples
from factory_assets.storage.tables.model_versions import ModelVersions
from factory_assets.storage.tables.training_cycles import TrainingCycles
from tests.lines.conftest import START
from tests.lines.fleet_fixture import DAYS, fleet_spec

NOW = START + timedelta(days=DAYS)
# The steps of a cycle in their order; the decisions are one of them.
STEPS: tuple[tuple[Any, str], ...] = (
    (MlflowRegistry, "open_run"),
    (mlflow_segments.MlflowSegments, "log_run"),
    (ArtefactStore, "write"),
    (MlflowRegistry, "log_training"),
    (mlflow_segments.MlflowSegments, "log"),
    (DriftReferences, "record"),
    (DriftSamples, "record"),
    (ModelVersions, "record"),
    (TrainingCycles, "record"),
    (ModelVersions, "decide"),
    (MlflowRegistry, "record_decision"),
    (MlflowRegistry, "set_champion"),
    (mlflow_segments.MlflowSegments, "point_champions"),
    (retrain_step, "show_segments"),
)
DECIDES = STEPS.index((ModelVersions, "decide"))
SPEC = fleet_spec(drift={"joint": {}})


def open_fleet_stores(root: Path) -> LineStores:
    settings = FactorySettings(data_dir=root)
    registry = MlflowRegistry(settings.mlflow_uri, settings.mlflow_artifacts)
    return LineStores(SPEC, Lake(settings.lake), ArtefactStore(settings.models), registry)


def open_instance(root: Path) -> dg.DagsterInstance:
    home = root / "dagster"
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    return dg.DagsterInstance.from_config(str(home))


def train_and_die(root: Path, step: int, after: bool) -> None:
    """Retrains; killed by SIGKILL before or after step number `step`; -1 lets it live."""
    if step >= 0:
        owner, name = STEPS[step]
        intact = getattr(owner, name)

        def deadly(*arguments: Any, **named: Any) -> Any:
            if after:
                intact(*arguments, **named)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(owner, name, deadly)
    settings = FactorySettings(data_dir=root)
    FactoryClock(settings.clock).set(NOW)
    # Its end lies before any day that could be scored.
    assets = [build_training_set_asset(SPEC), build_models_asset(SPEC, CalendarSpec(start=date(2015, 1, 1)))]
    with open_instance(root) as instance:
        dg.materialize(assets, instance=instance, resources=build_resources(settings))
