"""The code of the pyfunc that MLflow loads: a bundle of models, scored through the factory's one predict path.

MLflow runs this file when somebody loads a model of the factory; it is logged as code, so that nothing of the class itself
is pickled. The bundle is read only if its SHA-256 is the one recorded in the model's own metadata at training.
"""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from factory_assets.core.artefacts import unpack_model, unpickle_model
from factory_assets.core.prediction import predict_scores


class BundledModel(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined]
    """Scores a frame of raw feature columns: the positive class's probability, or the predicted value."""

    def load_context(self, context: Any) -> None:
        """Reads the one model out of the bundle, after its hash was checked."""
        self.settings: dict[str, Any] = context.model_config
        bundle = Path(context.artifacts["bundle"]).read_bytes()
        self.model = unpickle_model(unpack_model(bundle, self.settings["segment"]), self.settings["model_sha256"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> np.ndarray:
        """Returns float64 scores, one a row."""
        return predict_scores(
            self.model, model_input, self.settings["numeric"], self.settings["categorical"], self.settings["task"]
        )


mlflow.models.set_model(BundledModel())
