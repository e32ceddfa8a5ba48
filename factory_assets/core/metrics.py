"""Metrics of one set of predictions. Where a metric is undefined it is NaN, never a stand-in value.

They are scikit-learn's, which a test holds them to, without its checks of the input: those cost 5 ms a model, and the fit
of a small model 8.
"""

import math
from collections.abc import Callable

import numpy as np

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
    return {name: float(_METRICS[name](truth, predicted)) for name, (of, _) in METRICS.items() if of == task}


def evaluate_metric(metric: str, labels: np.ndarray, scores: np.ndarray) -> float:
    """One metric, as `evaluate_metrics` gives it.

    Raises:
        KeyError: for a name outside `contracts.model_line.METRICS`.
    """
    truth, predicted = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if len(truth) == 0 or not np.isfinite(predicted).all() or not np.isfinite(truth).all():
        return float("nan")
    return float(_METRICS[metric](truth, predicted))


def evaluate_row_losses(metric: str, labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The loss of each row that goes with a metric: small is good, and means over rows can be compared row by row.

    Log loss for the metrics of a ranking, which has no loss of a single row; else the metric's own loss.

    Raises:
        KeyError: for a name outside `contracts.model_line.METRICS`.
    """
    truth, predicted = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if metric in ("roc_auc", "average_precision", "log_loss"):
        certain = np.clip(np.where(truth > 0.5, predicted, 1 - predicted), np.finfo(np.float64).eps, 1)
        losses: np.ndarray = -np.log(certain)
        return losses
    if metric == "mae":
        return np.abs(predicted - truth)
    if metric in ("brier", "r2", "rmse"):
        return (predicted - truth) ** 2
    raise KeyError(metric)


def higher_is_better(metric: str) -> bool:
    """The direction of a metric.

    Raises:
        KeyError: for a name outside `contracts.model_line.METRICS`.
    """
    return METRICS[metric][1]


def unless_nan(value: float | None) -> float | None:
    """The value where there is one, for those who read tables and pages: NaN means nothing there, and Dagster shows none."""
    return None if value is None or math.isnan(value) else value


def _has_both_classes(labels: np.ndarray) -> bool:
    return bool(0 < labels.sum() < len(labels))


def _roc_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """The share of pairs of a positive and a negative row that are in order, ties as half (Mann and Whitney, 1947)."""
    if not _has_both_classes(labels):
        return float("nan")
    negatives, positives = np.sort(scores[labels < 0.5]), scores[labels > 0.5]
    below, upto = np.searchsorted(negatives, positives, "left"), np.searchsorted(negatives, positives, "right")
    return float((below.sum() + upto.sum()) / 2 / (len(positives) * len(negatives)))


def _average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """The sum of precision times gained recall over the distinct scores, from the highest down; no interpolation."""
    if not _has_both_classes(labels):
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    last_of_ties = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(labels[order])[last_of_ties]
    return float(np.sum(np.diff(hits, prepend=0.0) * hits / (last_of_ties + 1)) / labels.sum())


def _log_loss(labels: np.ndarray, scores: np.ndarray) -> float:
    return float(np.mean(evaluate_row_losses("log_loss", labels, scores)))


def _r2(labels: np.ndarray, scores: np.ndarray) -> float:
    if not np.ptp(labels) > 0:
        return float("nan")
    return float(1 - np.sum((labels - scores) ** 2) / np.sum((labels - labels.mean()) ** 2))


_METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "roc_auc": _roc_auc,
    "average_precision": _average_precision,
    "log_loss": _log_loss,
    "brier": lambda labels, scores: float(np.mean((scores - labels) ** 2)),
    "r2": _r2,
    "mae": lambda labels, scores: float(np.mean(np.abs(scores - labels))),
    "rmse": lambda labels, scores: float(np.sqrt(np.mean((scores - labels) ** 2))),
}
