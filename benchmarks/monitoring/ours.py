"""The verdicts of the factory's checks on each day of a champion's service: the pure decisions of production."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from benchmarks.monitoring.models import DAY, KNOWN_AT, Model, at_look, dated
from factory_assets.contracts.drift_policy import JointDriftSpec
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.reports import QualityReport
from factory_assets.core.drift.frames import compare_frame
from factory_assets.core.drift.joint import evaluate_joint
from factory_assets.core.drift.measures import Comparison
from factory_assets.core.drift.verdicts import evaluate_drift
from factory_assets.core.quality import ScoredRows, evaluate_quality, explain_labels
from factory_assets.core.time_split import LABEL

CHECKS = ("feature_drift", "joint_drift", "prediction_drift", "label_drift", "quality", "estimated_quality")
# Of the looks, the joint test takes every sixth: it fits dozens of classifiers, and its window is four weeks.
_JOINT_EVERY = 6
PREDICTION = "prediction"
# The check of quality with a limit of its own, for lines whose models are far above the dummy.
STRICT, STRICT_LOSS = "quality with max_loss 0.05", 0.05


def judge_days(spec: ModelLineSpec, rows: pd.DataFrame, model: Model, days: Sequence[int]) -> dict[str, list[int]]:
    """The days on which each check fails, with the promise shared by the checks of a line that retrains on all of them."""
    failed: dict[str, list[int]] = {check: [] for check in (*CHECKS, STRICT)}
    strict = spec.model_copy(update={"quality": spec.quality.model_copy(update={"max_loss": STRICT_LOSS})})
    level = spec.drift.false_alarms_per_month / 30 / len(CHECKS)
    window = spec.drift.window.days
    frame = rows.assign(**{PREDICTION: model.scores})
    features = [r for r in model.references if r.feature not in (LABEL, PREDICTION, *spec.drift.ignore)]
    of = {
        "feature_drift": features,
        "prediction_drift": [r for r in model.references if r.feature == PREDICTION],
        "label_drift": [r for r in model.references if r.feature == LABEL],
    }
    for check, references in of.items():
        for day, comparisons in _windows(references, frame, days, window):
            drifted = evaluate_drift(comparisons, spec.drift, None, len(CHECKS))[0].drifted
            if drifted and check == "label_drift":
                drifted = explain_labels(model.profile, _scored(frame, model, day, window), spec.task)[1] <= level
            if drifted:
                failed[check].append(day)
    names = [name for name in (*model.numeric, *model.categorical) if name not in spec.drift.ignore]
    for place, day in enumerate(days):
        scored = _scored(frame, model, day, spec.quality.window.days)
        for check in ("quality", "estimated_quality"):
            if judge_quality(spec, model, scored, level, labelled=check == "quality").decayed:
                failed[check].append(day)
        if judge_quality(strict, model, scored, level, labelled=True).decayed:
            failed[STRICT].append(day)
        if place % _JOINT_EVERY == _JOINT_EVERY - 1 and _joint(spec, rows, model, names, day, level):
            failed["joint_drift"].append(day)
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


def _joint(spec: ModelLineSpec, rows: pd.DataFrame, model: Model, names: list[str], day: int, level: float) -> bool:
    joint = spec.drift.joint or JointDriftSpec()
    size = min(joint.rows, len(model.train))
    chosen = np.sort(np.random.default_rng(0).choice(model.train, size, replace=False))
    window = rows[(rows[DAY] >= day - spec.drift.window.days) & (rows[DAY] < day)]
    window = window[np.random.default_rng(day).random(len(window)) < size / len(model.train)]
    reference = rows.loc[chosen]
    return evaluate_joint(
        dated(reference, reference, names),
        dated(window, reference, names),
        names,
        [name in model.categorical for name in names],
        joint,
        window_days=spec.drift.window.days,
        gap_days=spec.validation.holdout.days,
        level=level,
    ).exceeded
