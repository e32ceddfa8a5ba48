"""Metrics of one set of predictions. Where a metric is undefined it is NaN, never a stand-in value."""

import numpy as np
from sklearn.metrics import average_precision_score, log_loss, r2_score, roc_auc_score

from factory_assets.contracts.model_line import METRICS, Task


def evaluate_metrics(task: Task, labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Every metric of the task.

    Ranking metrics are NaN when the labels hold one class, r2 when the labels are constant, and all of them when there
    are no rows or a score is not finite.

    >>> metrics = evaluate_metrics("classification", np.array([0, 1]), np.array([0.2, 0.8]))
    >>> metrics["roc_auc"], round(metrics["brier"], 2)
    (1.0, 0.04)

    Args:
        task: decides which metrics are computed.
        labels: shape (n,); 0 and 1 for a classification.
        scores: shape (n,); probabilities of class 1, or predicted values.

    Raises:
        ValueError: when the shapes differ.
    """
    truth = np.asarray(labels, dtype=np.float64)
    predicted = np.asarray(scores, dtype=np.float64)
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise ValueError(f"labels {truth.shape} and scores {predicted.shape} must be two equally long vectors")
    if len(truth) == 0 or not np.isfinite(predicted).all() or not np.isfinite(truth).all():
        return {name: float("nan") for name, (of, _) in METRICS.items() if of == task}
    values = _classification(truth, predicted) if task == "classification" else _regression(truth, predicted)
    return {name: float(value) for name, value in values.items()}


def higher_is_better(metric: str) -> bool:
    """The direction of a metric.

    Raises:
        KeyError: for a name outside `contracts.model_line.METRICS`.
    """
    return METRICS[metric][1]


def _classification(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    both = 0 < labels.sum() < len(labels)
    return {
        "roc_auc": roc_auc_score(labels, scores) if both else float("nan"),
        "average_precision": average_precision_score(labels, scores) if both else float("nan"),
        "log_loss": log_loss(labels, scores, labels=[0.0, 1.0]),
        "brier": np.mean((scores - labels) ** 2),
    }


def _regression(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    return {
        "r2": r2_score(labels, scores) if np.ptp(labels) > 0 else float("nan"),
        "mae": np.mean(np.abs(scores - labels)),
        "rmse": np.sqrt(np.mean((scores - labels) ** 2)),
    }
