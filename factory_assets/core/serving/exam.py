"""The exam of a whole fleet: how deep it goes, on rows that no choice of a model has seen.

The fleet is judged with all levels, without the segments, without their parents, and so on to the global model alone. The
deepest of them serves that has a better metric than every shallower one and passes the paired test against the global
model. So on those rows the fleet is never worse than its global model, and both numbers are reported. They are the best of
a handful of candidates over all rows of the exam, which flatters them by far less than their own sampling error.
"""

from collections.abc import Sequence

import numpy as np

from factory_assets.contracts.fleet import FleetReport
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.core.metrics import evaluate_metric
from factory_assets.core.serving.paired_test import compare_with_parent

_NO_GLOBAL_MODEL = "the global model does not serve, and without it a fleet has nothing to be compared with"


def examine_fleet(
    spec: ModelLineSpec, labels: np.ndarray, days: np.ndarray, scores: Sequence[np.ndarray], global_serves: bool
) -> FleetReport:
    """The whole fleet at every depth.

    Args:
        spec: the model line.
        labels: of the rows of the exam that the global model has scored; none when it does not serve.
        days: of the same rows.
        scores: of what serves the same rows, for each level as the deepest that may.
        global_serves: whether the global model does.
    """
    top = len(spec.levels) - 1
    best, objections = top, [_NO_GLOBAL_MODEL] * top
    if global_serves:
        for level in range(top - 1, -1, -1):
            objections[level] = _object_to_depth(spec, labels, days, scores, level, best)
            best = best if objections[level] else level
    value, global_value = (evaluate_metric(spec.metric, labels, scores[level]) for level in (best, top))
    return FleetReport(spec.metric, len(labels), value, global_value, best, tuple(objections))


def keep_depth(spec: ModelLineSpec, deepest: int, global_serves: bool) -> tuple[str, ...]:
    """As `FleetReport.objections`, where the fleet keeps the depth of its last exam."""
    stands = f"since the last exam of the whole fleet nothing finer than {_describe_level(spec, deepest)} serves"
    return (stands if global_serves else _NO_GLOBAL_MODEL,) * deepest


def _object_to_depth(
    spec: ModelLineSpec, labels: np.ndarray, days: np.ndarray, scores: Sequence[np.ndarray], level: int, best: int
) -> str:
    """Why the fleet does not go down to a level, as half a sentence; empty when it is better than down to `best`."""
    if not len(labels):
        return "the fleet cannot be examined, as no row of its exam has a label yet"
    value, shallower = (evaluate_metric(spec.metric, labels, scores[depth]) for depth in (level, best))
    if not np.isfinite(value):
        return f"the fleet cannot be examined, as {spec.metric} is undefined on the {len(labels):,} rows of its exam"
    exam = f"on {len(labels):,} rows of the exam the fleet"
    if value <= shallower if spec.higher_is_better else value >= shallower:
        return (
            f"{exam} is no better with models as fine as this ({spec.metric} {value:.4f}) than with nothing finer than"
            f" {_describe_level(spec, best)} ({shallower:.4f})"
        )
    doubt = compare_with_parent(spec, labels, scores[level], scores[-1], days, "the global model alone")
    return f"{exam} has {spec.metric} {value:.4f} with models as fine as this, but {doubt}" if doubt else ""


def _describe_level(spec: ModelLineSpec, level: int) -> str:
    columns = spec.levels[level]
    return f"a model for each {', '.join(columns)}" if columns else "the global model"
