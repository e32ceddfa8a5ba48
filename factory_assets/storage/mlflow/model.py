"""The code of the pyfunc that MLflow loads: a bundle of models, scored through the factory's one predict path.

MLflow runs this file when somebody loads a model of the factory; it is logged as code, so that nothing of the class itself
is pickled. Beside it lie the bundle and the list of what serves; the list is read only if its SHA-256 is the one in the
model's own metadata, and a model only if its SHA-256 is the one in the list.
"""

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa

from factory_assets.core.models.artefacts import Bundle, UntrustedArtefactError, digest, unpickle_model
from factory_assets.core.serving.fleet_scoring import ServingModel, score_fleet
from factory_assets.storage.stored_file import StoredFile


class BundledModel(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined]
    """Scores a frame of key and feature columns: the positive class's probability, or the predicted value.

    Of a fleet each row is scored by the model that serves its segment; NaN where none does.
    """

    def load_context(self, context: Any) -> None:
        """Reads the list of what serves and the bundle's index; models are unpickled when a row needs them."""
        listed = Path(context.artifacts["serving"]).read_bytes()
        if digest(listed) != context.model_config["serving_sha256"]:
            raise UntrustedArtefactError("the list of serving models is not the one that was recorded at training")
        self.settings: dict[str, Any] = json.loads(listed)
        kinds = [(tuple(numeric), tuple(categorical)) for numeric, categorical in self.settings["kinds"]]
        self.serving = {
            segment: ServingModel(segment, sha256, *kinds[kind]) for segment, sha256, kind in self.settings["models"]
        }
        self.bundle = Bundle(StoredFile.open(context.artifacts["bundle"]))
        self.loaded: dict[str, Any] = {}

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> np.ndarray:
        """Returns float64 scores, one a row."""
        table = pa.Table.from_pandas(model_input, preserve_index=False)
        return score_fleet(table, self.settings["levels"], self.serving, self._load, self.settings["task"]).scores

    def _load(self, model: ServingModel) -> Any:
        if model.sha256 not in self.loaded:
            self.loaded[model.sha256] = unpickle_model(self.bundle.raw(model.sha256), model.sha256)
        return self.loaded[model.sha256]


mlflow.models.set_model(BundledModel())
