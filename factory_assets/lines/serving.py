"""From a recorded version to scores: the hash is checked, then the one predict path runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from factory_assets.contracts.model_line import Task
from factory_assets.core.artefacts import unpack_model, unpickle_model
from factory_assets.core.prediction import predict_scores
from factory_assets.lines.stores import LineStores
from factory_assets.storage.model_versions import ModelVersion


@dataclass(frozen=True)
class LoadedModel:
    """A model that may be trusted: its bytes hashed to what was recorded at training."""

    version: ModelVersion
    model: Any
    task: Task

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        """Scores of raw feature columns, float64, one a row."""
        return predict_scores(self.model, frame, self.version.numeric, self.version.categorical, self.task)


def load_model(stores: LineStores, version: ModelVersion) -> LoadedModel:
    """Loads a recorded version.

    Raises:
        UntrustedArtefactError: when the file's hash is not the one recorded.
        ArtefactMissingError: when the file is gone.
    """
    blob = stores.artefacts.read(version.artefact_path)
    model = unpickle_model(unpack_model(blob, version.segment), version.artefact_sha256)
    return LoadedModel(version, model, stores.spec.task)


def flatten(metrics: Mapping[str, float], prefix: str) -> dict[str, float]:
    """Metrics under a prefix, as MLflow and Dagster show them."""
    return {f"{prefix}_{name}": value for name, value in metrics.items()}
