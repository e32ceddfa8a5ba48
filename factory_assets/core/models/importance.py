"""Permutation importance: how much worse a model gets when one feature is shuffled (Breiman, Random Forests, 2001)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from factory_assets.contracts.model_line import Task
from factory_assets.core.metrics import evaluate_metrics
from factory_assets.core.models.features import prepare_features
from factory_assets.core.models.prediction import predict_scores

# Both are defined for any labels, a single class included, which a ranking metric is not.
IMPORTANCE_METRIC: dict[Task, str] = {"classification": "log_loss", "regression": "rmse"}


def feature_importance(
    model: Any,
    frame: pd.DataFrame,
    labels: np.ndarray,
    numeric: Sequence[str],
    categorical: Sequence[str],
    task: Task,
    seed: int,
    max_rows: int = 2000,
) -> dict[str, float]:
    """The increase of log loss (classification) or RMSE (regression) on held-out rows when a feature is shuffled.

    Near zero, or below, means that the model does not miss the feature; correlated features share their importance.

    Args:
        model: a fitted pipeline.
        frame: held-out rows with the feature columns, shape (n, ...).
        labels: shape (n,).
        numeric: numeric feature names.
        categorical: categorical feature names.
        task: of the model.
        seed: of the sample and the shuffles.
        max_rows: a random sample of so many rows is used, to bound the cost of one prediction a feature.

    Returns:
        Feature -> increase, largest first; NaN when there are no rows.
    """
    random = np.random.default_rng(seed)
    rows = np.sort(random.choice(len(frame), size=min(max_rows, len(frame)), replace=False))
    sample = prepare_features(frame.iloc[rows], numeric, categorical).reset_index(drop=True)
    truth = np.asarray(labels, dtype=np.float64)[rows]
    metric = IMPORTANCE_METRIC[task]

    def error_of(features: pd.DataFrame) -> float:
        return evaluate_metrics(task, truth, predict_scores(model, features, numeric, categorical, task))[metric]

    intact = error_of(sample)
    increases = {}
    for name in sample.columns:
        shuffled = sample[name].iloc[random.permutation(len(sample))].reset_index(drop=True)
        increases[str(name)] = error_of(sample.assign(**{str(name): shuffled})) - intact
    return dict(sorted(increases.items(), key=lambda item: -item[1]))
