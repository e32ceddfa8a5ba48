"""Whether one model is better than another on the same later rows, beyond doubt."""

import numpy as np
from scipy import stats

from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.core.metrics import evaluate_row_losses


def compare_with_parent(
    spec: ModelLineSpec,
    labels: np.ndarray,
    own: np.ndarray,
    parent: np.ndarray,
    days: np.ndarray,
    called: str = "the parent",
) -> str:
    """Why the parent, called so, goes on serving, as half a sentence; empty when `own` is better beyond doubt."""
    gains = evaluate_row_losses(spec.metric, labels, parent) - evaluate_row_losses(spec.metric, labels, own)
    gain, doubt = estimate_gain(gains, days)
    if gain <= 0:
        return f"on {len(gains):,} later rows the error of {called} is smaller by {-gain:.4g} a row"
    if doubt > 1 - spec.segments.confidence:
        return (
            f"a gain of {gain:.4g} a row over {called} on {len(gains):,} later rows may be chance"
            f" (p = {doubt:.2f}, segments.confidence is {spec.segments.confidence:g})"
        )
    return ""


def estimate_gain(gains: np.ndarray, days: np.ndarray) -> tuple[float, float]:
    """The mean gain a row, and the one-sided p-value of a t-test that counts days, not rows, as independent.

    The standard error is that of a ratio of sums over clusters (Cochran, Sampling Techniques, 1977, section 2.11); the
    p-value is 1 when one day is all there is.

    Args:
        gains: shape (n,), n at least 1.
        days: shape (n,), the cluster of each.
    """
    gain = float(gains.mean())
    _, cluster = np.unique(days, return_inverse=True)
    surplus = np.bincount(cluster, weights=gains - gain)
    clusters = len(surplus)
    if clusters < 2:
        return gain, 1.0
    error = float(np.sqrt(clusters / (clusters - 1) * np.sum(surplus**2))) / len(gains)
    if error == 0:
        return gain, 0.0 if gain > 0 else 1.0
    return gain, float(stats.t.sf(gain / error, clusters - 1))
