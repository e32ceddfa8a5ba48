"""The verdicts of the factory's checks on each day of a champion's service: the pure decisions of production."""

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pandas as pd

from benchmarks.monitoring.models import DAY, KNOWN_AT, Model, at_look
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.reports import QualityReport
from factory_assets.core.drift.frames import compare_frame
from factory_assets.core.drift.measures import Comparison
from factory_assets.core.drift.verdicts import evaluate_drift
from factory_assets.core.monitoring.quality import ScoredRows, evaluate_quality, explain_labels
from factory_assets.core.training.time_split import LABEL
from factory_assets.lines.judging.drift import level_of_a_day, sharing_checks

# The joint test fits dozens of classifiers a look and never failed on these lines (decision 0043); the estimate is
# compared by its error.
CHECKS = ("feature_drift", "prediction_drift", "label_drift", "quality")
PREDICTION = "prediction"


def judge_days(spec: ModelLineSpec, rows: pd.DataFrame, model: Model, days: Sequence[int]) -> dict[str, list[int]]:
    """The days on which each check counts as failed, with the promise shared by those that start a retrain by default."""
    failed: dict[str, list[int]] = {check: [] for check in CHECKS}
    level = level_of_a_day(spec)
    frame = rows.assign(**{PREDICTION: model.scores})
    left_out = (LABEL, PREDICTION, *spec.drift.ignore)
    features = [reference for reference in model.references if reference.feature not in left_out]
    of_scores, of_labels = ([r for r in model.references if r.feature == name] for name in (PREDICTION, LABEL))
    past: dict[str, list[bool]] = {check: [] for check in CHECKS}
    for day in days:
        window, scored = _window(frame, day, spec.drift.window), _scored(frame, model, day, spec.drift.window)
        known = pd.DataFrame({LABEL: scored.labels[np.isfinite(scored.labels)]})
        verdicts = {
            "feature_drift": _drifts(spec, compare_frame({"all": features}, window), past["feature_drift"]),
            "prediction_drift": _drifts(spec, compare_frame({"all": of_scores}, window), past["prediction_drift"]),
            "label_drift": _drifts(spec, compare_frame({"all": of_labels}, known), past["label_drift"])
            and explain_labels(model.profile, scored, spec.task)[1] <= level,
            "quality": _decays(spec, model, _scored(frame, model, day, spec.quality.window), level),
        }
        for check, fails in verdicts.items():
            failed[check] += [day] if fails else []
    return {check: _confirmed(found, spec.retrain.confirm) for check, found in failed.items()}


def _drifts(spec: ModelLineSpec, comparisons: Sequence[Comparison], past: list[bool]) -> bool:
    """A day's verdict after hysteresis; `past` holds whether the days judged before exceeded, and takes this one."""
    before = past[max(len(past) - spec.drift.hysteresis.of + 1, 0) :]
    report, _ = evaluate_drift(comparisons, spec.drift, {"all": sum(before)}, sharing_checks(spec))
    past += [segment.exceeded for segment in report.segments if segment.judged]
    return report.drifted


def _decays(spec: ModelLineSpec, model: Model, scored: ScoredRows, level: float) -> bool:
    """A loss within the limit is no decay whatever its error, and its error is not asked for."""
    report = judge_quality(spec, model, scored, level, labelled=True, draws=1)
    doubtful = report.judged and min(report.loss, report.unexplained) > spec.quality.max_loss
    return doubtful and judge_quality(spec, model, scored, level, labelled=True).decayed


def _confirmed(failed: Sequence[int], confirm: int) -> list[int]:
    """The days that end so many failed ones in a row."""
    return [day for day in failed if set(range(day - confirm + 1, day)) <= set(failed)]


def judge_quality(
    spec: ModelLineSpec, model: Model, scored: ScoredRows, level: float, *, labelled: bool, **draws: int
) -> QualityReport:
    """The verdict on a window, or the estimate of it."""
    return evaluate_quality(
        spec.metric,
        model.evaluation,
        model.profile,
        scored,
        max_loss=spec.quality.limit_of("quality" if labelled else "estimated_quality"),
        min_rows=spec.quality.min_rows,
        level=level,
        labelled=labelled,
        seed=spec.validation.seed,
        **draws,
    )


def _scored(frame: pd.DataFrame, model: Model, day: int, window: timedelta) -> ScoredRows:
    """Rows of the whole days before `day` that were scored after the training, labels as they are known by the look."""
    chosen = _window(frame, day, min(window, timedelta(days=day - model.day)))
    labels = np.where(chosen[KNOWN_AT] <= at_look(day), chosen[LABEL], np.nan)
    return ScoredRows(chosen[PREDICTION].to_numpy(), labels, chosen[DAY].to_numpy())


def _window(frame: pd.DataFrame, day: int, window: timedelta) -> pd.DataFrame:
    """The rows of the whole days before `day`; rows are in order of time."""
    first, end = np.searchsorted(frame[DAY], [day - window.days, day])
    return frame.iloc[first:end]
