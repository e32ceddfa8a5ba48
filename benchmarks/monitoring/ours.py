"""The verdicts of the factory's checks on each day of a champion's service: the pure decisions of production."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from benchmarks.monitoring.models import DAY, KNOWN_AT, Model, at_look
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.reports import QualityReport
from factory_assets.core.drift.frames import compare_frame
from factory_assets.core.drift.measures import Comparison
from factory_assets.core.drift.verdicts import evaluate_drift
from factory_assets.core.quality import ScoredRows, evaluate_quality, explain_labels
from factory_assets.core.time_split import LABEL
from factory_assets.lines.judging.drift import level_of_a_day, sharing_checks

# The joint test fits dozens of classifiers a look and never failed on these lines (decision 0043); the estimate is
# compared by its error.
CHECKS = ("feature_drift", "prediction_drift", "label_drift", "quality")
PREDICTION = "prediction"


def judge_days(spec: ModelLineSpec, rows: pd.DataFrame, model: Model, days: Sequence[int]) -> dict[str, list[int]]:
    """The days on which each check fails, with the promise shared by those that start a retrain by default."""
    failed: dict[str, list[int]] = {check: [] for check in CHECKS}
    sharing, level = sharing_checks(spec), level_of_a_day(spec)
    window = spec.drift.window.days
    frame = rows.assign(**{PREDICTION: model.scores})
    of = {
        "feature_drift": [r for r in model.references if r.feature not in (LABEL, PREDICTION, *spec.drift.ignore)],
        "prediction_drift": [r for r in model.references if r.feature == PREDICTION],
        "label_drift": [r for r in model.references if r.feature == LABEL],
    }
    for check, references in of.items():
        for day, comparisons in _windows(references, frame, days, window):
            drifted = evaluate_drift(comparisons, spec.drift, None, sharing)[0].drifted
            if drifted and check == "label_drift":
                drifted = explain_labels(model.profile, _scored(frame, model, day, window), spec.task)[1] <= level
            if drifted:
                failed[check].append(day)
    for day in days:
        scored = _scored(frame, model, day, spec.quality.window.days)
        if judge_quality(spec, model, scored, level, labelled=True).decayed:
            failed["quality"].append(day)
    return failed


def judge_quality(spec: ModelLineSpec, model: Model, scored: ScoredRows, level: float, *, labelled: bool) -> QualityReport:
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
    )


def _scored(frame: pd.DataFrame, model: Model, day: int, window: int) -> ScoredRows:
    """Rows of the whole days before `day` that were scored after the training, labels as they are known by the look."""
    first = max(day - window, model.day)
    chosen = frame[(frame[DAY] >= first) & (frame[DAY] < day)]
    labels = np.where(chosen[KNOWN_AT] <= at_look(day), chosen[LABEL], np.nan)
    return ScoredRows(chosen[PREDICTION].to_numpy(), labels, chosen[DAY].to_numpy())


def _windows(
    references: Sequence[object], frame: pd.DataFrame, days: Sequence[int], window: int
) -> Iterator[tuple[int, list[Comparison]]]:
    """The comparisons of each day's window."""
    moments = frame[DAY]
    for day in days:
        yield day, compare_frame({"all": references}, frame[(moments >= day - window) & (moments < day)])
