"""Where Dagster begins: typed shells that hand plain storage objects to assets, checks and sensors.

Belongs here: what an asset needs from outside, bound to settings once. Does not belong here: any logic.
"""

from pathlib import Path
from typing import Any

import dagster as dg

from factory_assets.settings import FactorySettings
from factory_assets.storage.artefact_store import ArtefactStore
from factory_assets.storage.clock import FactoryClock
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.mlflow.registry import MlflowRegistry


class LakeResource(dg.ConfigurableResource[Any]):
    """The Delta lake, the landing folder before it, and the model artefacts beside it."""

    root: str
    landing: str
    models: str

    def open(self) -> Lake:
        """The lake."""
        return Lake(self.root)

    def landing_folder(self) -> Path:
        """Where raw files arrive."""
        return Path(self.landing)

    def artefacts(self) -> ArtefactStore:
        """The store of model bytes."""
        return ArtefactStore(Path(self.models))


class MlflowResource(dg.ConfigurableResource[Any]):
    """MLflow, written directly."""

    tracking_uri: str
    artifact_root: str

    def open(self) -> MlflowRegistry:
        """The registry; nothing connects before its first use."""
        return MlflowRegistry(self.tracking_uri, self.artifact_root)


class ClockResource(dg.ConfigurableResource[Any]):
    """The factory clock."""

    path: str

    def open(self) -> FactoryClock:
        """The clock; it reads its file at every call, so that a replay moves all processes at once."""
        return FactoryClock(Path(self.path))


def build_resources(settings: FactorySettings) -> dict[str, dg.ConfigurableResource[Any]]:
    """The resources of one installation, by the names that assets ask for."""
    return {
        "lake": LakeResource(root=settings.lake, landing=str(settings.landing), models=str(settings.models)),
        "mlflow": MlflowResource(tracking_uri=settings.mlflow_uri, artifact_root=settings.mlflow_artifacts),
        "clock": ClockResource(path=str(settings.clock)),
    }
