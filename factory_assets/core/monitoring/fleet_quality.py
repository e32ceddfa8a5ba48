"""Quality of all models that serve a line: each against its own holdout, all within the line's promise of false alarms."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from factory_assets.contracts.model_line import Task
from factory_assets.contracts.reports import (
    DriftReport,
    Evaluation,
    FeatureReference,
    FleetQualityReport,
    QualityReport,
    ScoreProfile,
)
from factory_assets.core.drift.frames import compare_frame
from factory_assets.core.drift.measures import Comparison
from factory_assets.core.monitoring.quality import ScoredRows, evaluate_quality, explain_labels
from factory_assets.core.training.fit import LABEL


@dataclass(frozen=True)
class ServedModel:
    """A model that serves, what is known of the holdout rows that are like those it serves, and those of a window.

    `labels` are those of its training, of a parent that shares its rows those of its holdout; None when nothing was kept.
    """

    segment: str
    version: int
    evaluation: Evaluation
    profile: ScoreProfile
    labels: FeatureReference | None
    rows: ScoredRows


def evaluate_fleet_quality(
    metric: str,
    models: Sequence[ServedModel],
    *,
    max_loss: float,
    min_rows: int,
    level: float,
    labelled: bool,
    seed: int = 0,
    is_shown: bool = True,
) -> FleetQualityReport:
    """Judges every model by `evaluate_quality`; those that can be judged share the false alarms in equal parts.

    Args:
        metric: the line's metric.
        models: those that serve, at least one.
        max_loss: share of its skill that each may lose.
        min_rows: fewest rows for a verdict on one.
        level: false alarms a day that the verdicts on all of them may start.
        labelled: judge the realised quality; else the estimate.
        seed: of the resampling.
        is_shown: whether the worst model's errors are wanted where nothing decayed.
    """

    def evaluate(model: ServedModel, level: float, **draws: int) -> QualityReport:
        return evaluate_quality(
            metric,
            model.evaluation,
            model.profile,
            model.rows,
            max_loss=max_loss,
            min_rows=min_rows,
            level=level,
            labelled=labelled,
            seed=seed,
            **draws,
        )

    # A loss within the limit is no decay, whatever its error: most models need no draws.
    found = [evaluate(model, level, draws=1) for model in models]
    share = level / max(sum(report.judged for report in found), 1)
    doubtful = [_is_doubtful(report, max_loss, labelled) for report in found]
    found = [
        evaluate(model, share) if doubt else report for model, report, doubt in zip(models, found, doubtful, strict=True)
    ]
    order = sorted(range(len(models)), key=lambda place: (*_rank(found[place]), models[place].segment))
    worst = order[0]
    if is_shown and not doubtful[worst]:
        found[worst] = evaluate(models[worst], share)
    segments = tuple((models[place].segment, found[place]) for place in order)
    return FleetQualityReport(segments, _reason(segments))


def _is_doubtful(report: QualityReport, max_loss: float, labelled: bool) -> bool:
    """Whether it decayed unless noise explains it."""
    unexplained = report.unexplained > max_loss or not labelled or report.expected is None
    return report.judged and report.loss > max_loss and unexplained


def _rank(report: QualityReport) -> tuple[bool, bool, float, int]:
    """Decayed ones first, then those that were judged, by their loss."""
    loss = report.loss if np.isfinite(report.loss) else -np.inf
    return not report.decayed, not report.judged, -loss, -report.rows


def _reason(segments: Sequence[tuple[str, QualityReport]]) -> str:
    segment, worst = segments[0]
    judged = sum(report.judged for _, report in segments)
    if len(segments) == 1:
        return worst.reason
    if not judged:
        return f"{worst.reason} Nothing is said of any of the {len(segments):,} models that serve."
    counted = f"{sum(report.decayed for _, report in segments):,} of {judged:,} judged models decayed."
    left = f" {len(segments) - judged:,} are not judged." if judged < len(segments) else ""
    return f"{counted}{left} Segment {segment}: {worst.reason}"


@dataclass(frozen=True)
class ExplainedLabels:
    """Which segments' labels drifted beyond what the features explain, the worst one's gap with its p-value, in words."""

    failing_segments: tuple[str, ...]
    gap: float
    p_value: float
    reason: str


def compare_labels(models: Sequence[ServedModel]) -> list[Comparison]:
    """The known labels of each model's rows beside those that were kept of it."""
    references = {model.segment: [model.labels] for model in models if model.labels is not None}
    if not references:
        return []
    known = [model.rows.labels[np.isfinite(model.rows.labels)] for model in models]
    keys = np.repeat([model.segment for model in models], [len(labels) for labels in known])
    return compare_frame(references, pd.DataFrame({LABEL: np.concatenate(known)}), keys)


def explain_drift(report: DriftReport, models: Sequence[ServedModel], task: Task, level: float) -> ExplainedLabels:
    """Which drifts of labels the features do not explain; judged segments share the false alarms in equal parts.

    Args:
        report: on the labels.
        models: that served them.
        task: of the line.
        level: false alarms a day of all of them.
    """
    by_segment = {model.segment: model for model in models}
    share = level / max(sum(segment.judged for segment in report.segments), 1)
    drifted = [segment.segment for segment in report.segments if segment.drifted]
    first = [segment.segment for segment in report.segments] or list(by_segment)
    gaps = {key: explain_labels(by_segment[key].profile, by_segment[key].rows, task) for key in drifted or first[:1]}
    failing = tuple(key for key in drifted if gaps[key][1] <= share)
    shown = next(iter(failing or gaps), "")
    gap, p_value = gaps.get(shown, (0.0, 1.0))
    if not drifted:
        return ExplainedLabels((), gap, p_value, "")
    where = f" Segment {shown}: beyond" if len(models) > 1 else " Beyond"
    why = "." if failing else ", which is noise: the labels changed with the features, and the model knows that."
    reason = f"{where} what the features explain by {gap:+.3f} (p = {p_value:.1g}){why}"
    return ExplainedLabels(failing, gap, p_value, reason)
