"""The pictures of a training: how well the model of all rows is calibrated, and what it looks at."""

import pyarrow as pa

from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.core.models.artefacts import unpack_payload, unpickle_model
from factory_assets.core.models.importance import feature_importance
from factory_assets.core.pictures.plots import plot_calibration, plot_importance, plot_predicted_against_actual
from factory_assets.core.training.segment_training import SegmentResult
from factory_assets.core.training.time_split import HOLDOUT
from factory_assets.lines.planning import Plan


def draw_root(spec: ModelLineSpec, plan: Plan, result: SegmentResult | None) -> dict[str, bytes]:
    """PNG files by name; none when the model of all rows was not trained in this cycle."""
    if result is None or result.trained is None or result.model is None:
        return {}
    trained = result.trained
    model = unpickle_model(unpack_payload(result.model, result.segment), result.model.sha256)
    judged = plan.table.filter(pa.array(plan.parts == HOLDOUT)).to_pandas()
    # To look for them has brought all rows into memory.
    plan.forget()
    importance = feature_importance(
        model,
        judged,
        trained.holdout_labels,
        trained.numeric,
        trained.categorical,
        spec.task,
        spec.validation.seed,
    )
    fit_plot = plot_calibration if spec.task == "classification" else plot_predicted_against_actual
    fit_name = "calibration.png" if spec.task == "classification" else "predicted_against_actual.png"
    return {
        fit_name: fit_plot(trained.holdout_labels, trained.holdout_scores),
        "importance.png": plot_importance(list(importance), list(importance.values())),
    }
