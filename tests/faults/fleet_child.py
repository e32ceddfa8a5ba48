"""A process that trains a fleet and kills itself, for good, before or after one of its steps."""

import os
import signal
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from factory_assets.lines.stores import LineStores
from factory_assets.lines.training import train_line
from factory_assets.storage.artefact_store import ArtefactStore
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.mlflow import segments as mlflow_segments
from factory_assets.storage.mlflow.registry import MlflowRegistry
from factory_assets.storage.tables.drift_references import DriftReferences
from factory_assets.storage.tables.model_versions import ModelVersions
from factory_assets.storage.tables.training_cycles import TrainingCycles
from tests.lines.conftest import START
from tests.lines.fleet_fixture import DAYS, fleet_spec

NOW = START + timedelta(days=DAYS)
# The steps of a cycle in their order; the decisions are one of them.
STEPS: tuple[tuple[type[Any], str], ...] = (
    (MlflowRegistry, "open_run"),
    (mlflow_segments.MlflowSegments, "log_run"),
    (ArtefactStore, "write"),
    (MlflowRegistry, "log_training"),
    (mlflow_segments.MlflowSegments, "log"),
    (DriftReferences, "record"),
    (ModelVersions, "record"),
    (TrainingCycles, "record"),
    (ModelVersions, "decide"),
    (MlflowRegistry, "record_decision"),
    (MlflowRegistry, "set_champion"),
    (mlflow_segments.MlflowSegments, "point_champions"),
)
DECIDES = 8


def open_fleet_stores(root: Path) -> LineStores:
    registry = MlflowRegistry(f"sqlite:///{root / 'mlflow.db'}", str(root / "artifacts"))
    stores = LineStores(fleet_spec(), Lake(str(root / "lake")), ArtefactStore(root / "models"), registry)
    return replace(stores, workers=1)


def train_and_die(root: Path, step: int, after: bool) -> None:
    """Trains; killed by SIGKILL before or after step number `step`; -1 lets it live."""
    if step >= 0:
        owner, name = STEPS[step]
        intact = getattr(owner, name)

        def deadly(*arguments: Any, **named: Any) -> Any:
            if after:
                intact(*arguments, **named)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(owner, name, deadly)
    stores = open_fleet_stores(root)
    stores.training_sets.build(NOW)
    train_line(stores, NOW, "run")
