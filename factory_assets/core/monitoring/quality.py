"""Quality of the serving model once labels are known, and before, as far as its own scores tell; both with their errors.

Before labels arrive, each row's label is taken as the chance that the champion's holdout gave to scores like its own
(confidence-based estimation, as NannyML's CBPE does for classifiers); a regression has no such chance, so its error is
taken as that of scores alike on the holdout. The estimate sees what the features explain, a season among it, and nothing
else: what is lost beyond it is decay of the model.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from factory_assets.contracts.model_line import METRICS
from factory_assets.contracts.reports import Evaluation, QualityReport, ScoreProfile
from factory_assets.core.drift.alarms import chance_of_a_start

_DRAWS = 200
_WEAKEST = 0.05


@dataclass(frozen=True)
class ScoredRows:
    """Rows of a window: scores, labels (nan while unknown), and the day of each as an integer; all of shape (n,)."""

    scores: np.ndarray
    labels: np.ndarray
    days: np.ndarray


def evaluate_quality(
    metric: str,
    evaluation: Evaluation,
    profile: ScoreProfile,
    rows: ScoredRows,
    *,
    max_loss: float,
    min_rows: int,
    level: float,
    labelled: bool,
    seed: int = 0,
    draws: int = _DRAWS,
) -> QualityReport:
    """Judges a window against the champion's own holdout.

    Losses are shares of the skill that the champion had over the dummy on its holdout. With labels, it decayed when both
    the loss and that part of it which the features do not explain are above `max_loss` and noise explains neither;
    without, when that is so of the estimated loss. Noise explains what unchanged data would start to show on more than a
    share `level` of the days (`core.drift.alarms.chance_of_a_start`). Errors come from resampling whole days, and the
    holdout's from the window's by the ratio of their rows.

    Args:
        metric: the line's metric.
        evaluation: of the champion on its holdout.
        profile: of the champion's holdout.
        rows: the window; rows without a label count only for an estimate.
        max_loss: share of the skill that may be lost.
        min_rows: fewest rows for a verdict.
        level: false alarms a day that verdicts of this kind may start.
        labelled: judge the realised quality; else the estimate.
        seed: of the resampling.
        draws: of whole days; 1 gives loss and explanation without their errors, and so no decay.
    """
    known = np.isfinite(rows.labels) if labelled else np.ones(len(rows.scores), dtype=bool)
    scores, labels, days = rows.scores[known], rows.labels[known], rows.days[known]
    reference, dummy = evaluation.scores[metric], evaluation.dummy.get(metric, np.nan)
    nothing = QualityReport(False, False, metric, len(scores), reference, None, None, None, None, 0.0, 0.0, "")
    if len(scores) < min_rows or not np.isfinite(reference):
        return nothing.because(f"Not judged: {len(scores):,} rows, and fewer than {min_rows:,} say nothing about {metric}.")
    estimable = bool(profile.rows) and metric != "r2"
    if not labelled and not estimable:
        return nothing.because(f"Not judged: {metric} cannot be estimated before labels are known.")
    weights = draw_days(days, seed, draws)
    sign = 1.0 if METRICS[metric][1] else -1.0
    skill = max(abs(reference - dummy) if np.isfinite(dummy) else abs(reference), 1e-12)
    expected = _expect(metric, profile, scores, weights, seed) if estimable else np.full(len(weights), np.nan)
    realised = weighted_metric(metric, labels, scores, weights) if labelled else expected
    error = float(np.nanstd(realised[1:]))
    reference_error = error * np.sqrt(len(scores) / max(evaluation.rows, 1))
    loss = sign * (reference - realised[0]) / skill
    # The same days are drawn for both, so that what they have in common cancels.
    unexplained = sign * (expected - realised) / skill if labelled and estimable else np.full(len(weights), loss)
    shown = [(float(loss), float(np.hypot(error, reference_error) / skill))]
    if labelled and estimable:
        shown.append((float(unexplained[0]), float(np.nanstd(unexplained[1:]))))
    held = len(np.unique(days))
    decayed = all(size > max_loss and _is_shown(size, noise, held, level) for size, noise in shown)
    report = QualityReport(
        judged=True,
        decayed=decayed,
        metric=metric,
        rows=len(scores),
        reference=reference,
        realised=float(realised[0]) if labelled else None,
        realised_error=error if labelled else None,
        expected=float(expected[0]) if estimable else None,
        expected_error=float(np.nanstd(expected[1:])) if estimable else None,
        loss=float(loss),
        unexplained=float(unexplained[0]),
        reason="",
    )
    return report.because(_reason(report, max_loss))


def explain_labels(profile: ScoreProfile, rows: ScoredRows, task: str, seed: int = 0) -> tuple[float, float]:
    """How far labels lie from what the champion expects of these rows: the mean gap, and its two-sided p-value by days."""
    known = np.isfinite(rows.labels)
    if not known.any():
        return 0.0, 1.0
    scores = rows.scores[known]
    expected = _lookup(profile, profile.mean_label, scores) if task == "classification" and profile.rows else scores
    gap = rows.labels[known] - expected
    weights = draw_days(rows.days[known], seed)
    means = weights @ gap / weights.sum(axis=1)
    error = float(means[1:].std())
    return float(means[0]), float(2 * stats.norm.sf(abs(means[0]) / error)) if error > 0 else 1.0


def weighted_metric(metric: str, labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A metric under many weightings of the same rows, shape (b,), for weights of shape (b, n); nan where undefined."""
    total = weights.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        if metric in ("roc_auc", "average_precision"):
            return np.asarray(_ranking(metric, labels, scores, weights))
        error = scores - labels
        if metric == "log_loss":
            clipped = np.clip(scores, np.finfo(np.float64).eps, 1 - np.finfo(np.float64).eps)
            return np.asarray(weights @ -(labels * np.log(clipped) + (1 - labels) * np.log1p(-clipped)) / total)
        if metric == "mae":
            return np.asarray(weights @ np.abs(error) / total)
        squared = weights @ np.square(error) / total
        if metric == "r2":
            mean = weights @ labels / total
            return np.asarray(1 - squared / (weights @ np.square(labels) / total - np.square(mean)))
        return np.asarray(np.sqrt(squared) if metric == "rmse" else squared)


def _ranking(metric: str, labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Both metrics off the same curve: positives and negatives above each distinct score."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])
    positive = np.cumsum(weights[:, order] * labels[order], axis=1)[:, ends]
    negative = np.cumsum(weights[:, order] * (1 - labels[order]), axis=1)[:, ends]
    zeros = np.zeros((len(weights), 1))
    gained = np.diff(np.concatenate([zeros, positive], axis=1), axis=1)
    if metric == "average_precision":
        # Above the highest rows of a weighting that leaves them out there is nothing, and nothing is gained there.
        above = np.maximum(positive + negative, np.finfo(np.float64).tiny)
        return np.asarray((gained * positive / above).sum(axis=1) / positive[:, -1])
    before = np.concatenate([zeros, negative[:, :-1]], axis=1)
    concordant = (gained * (negative[:, -1:] - (before + negative) / 2)).sum(axis=1)
    return np.asarray(concordant / (positive[:, -1] * negative[:, -1]))


def _expect(metric: str, profile: ScoreProfile, scores: np.ndarray, weights: np.ndarray, seed: int) -> np.ndarray:
    """The metric that scores like these had on the holdout; the first draw is the estimate, the rest its error."""
    if METRICS[metric][0] == "regression":
        of = profile.mean_absolute_error if metric == "mae" else profile.mean_squared_error
        means = weights @ _lookup(profile, of, scores) / weights.sum(axis=1)
        return np.asarray(means if metric == "mae" else np.sqrt(means))
    chance, rows = np.array(profile.mean_label), np.array(profile.rows)
    noise = np.random.default_rng(seed + 1).normal(size=(len(weights), len(chance)))
    noise[0] = 0.0
    chances = np.clip(chance + noise * np.sqrt(chance * (1 - chance) / rows), 0.0, 1.0)
    bins = np.searchsorted(np.array(profile.cuts), scores, side="left")
    if metric == "roc_auc":
        # Rows of one chance win against each other as often as they lose, whatever their order: a bin is as one row.
        weights = weights @ (bins[:, None] == np.arange(len(chance))).astype(np.float64)
        scores = bins = np.arange(len(chance))
    of_rows = chances[:, bins]
    # Every row counts as both labels, each by its chance.
    both = np.concatenate([weights * of_rows, weights * (1 - of_rows)], axis=1)
    labels = np.r_[np.ones(len(scores)), np.zeros(len(scores))]
    return weighted_metric(metric, labels, np.r_[scores, scores], both)


def _lookup(profile: ScoreProfile, values: tuple[float, ...], scores: np.ndarray) -> np.ndarray:
    return np.array(values)[np.searchsorted(np.array(profile.cuts), scores, side="left")]


def draw_days(days: np.ndarray, seed: int, draws: int = _DRAWS) -> np.ndarray:
    """Weights of the rows: all ones first, then whole days drawn again and again with replacement."""
    _, day = np.unique(days, return_inverse=True)
    count = int(day.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)
    return np.concatenate([np.ones((1, len(days))), drawn[:, day]]).astype(np.float64)


def _is_shown(size: float, noise: float, days: int, level: float) -> bool:
    """Whether noise does not explain a loss: never by more than one side's 5%, however many alarms a line allows.

    Few days tell little of their own spread: drawn with replacement they show (n - 1) / n of it, and Student's t knows n.
    """
    if not np.isfinite(size) or not noise > 0 or days < 2:
        return False
    p_value = float(stats.t.sf(size / noise * np.sqrt(1 - 1 / days), days - 1))
    return p_value <= _WEAKEST and chance_of_a_start(p_value, days) <= level


def _reason(report: QualityReport, max_loss: float) -> str:
    limit = f"(limit {max_loss:.0%} of its skill)"
    rows = f"{report.rows:,} rows"
    if report.realised is None:
        verdict = "is expected to have decayed" if report.decayed else "is expected to hold"
        return (
            f"{report.metric} {verdict}: {report.expected:.3f} ± {report.expected_error:.3f} in {rows} by scores alone, "
            f"{report.reference:.3f} on the holdout; {report.loss:.0%} lost {limit}."
        )
    verdict = "decayed" if report.decayed else "holds"
    explained = ""
    if report.expected is not None:
        explained = f", of which the features do not explain {max(report.unexplained, 0.0):.0%}"
    return (
        f"{report.metric} {verdict}: {report.realised:.3f} ± {report.realised_error:.3f} in {rows}, "
        f"{report.reference:.3f} on the holdout; {report.loss:.0%} lost{explained} {limit}."
    )
