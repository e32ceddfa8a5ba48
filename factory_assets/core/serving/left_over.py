"""What a parent serves of its own holdout: the rows of the segments that no model below it takes.

A parent learns from all rows below it and is examined on all of them, but where models below it serve, it scores what they
leave over. Those rows have scores, labels and a quality of their own kind, so that they are compared with the same kind of
rows of its holdout, whoever was promoted since.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.reports import Evaluation, FeatureReference, ScoreProfile
from factory_assets.core.drift import build_reference, build_score_profile
from factory_assets.core.metrics import evaluate_metrics
from factory_assets.core.segments import ancestors, segment_values
from factory_assets.core.training.fit import LABEL, PREDICTION


@dataclass(frozen=True)
class HoldoutScores:
    """A parent's holdout, a row each: the row's own segment, its day, score and label, all of shape (n,).

    `mean_label` is that of the parent's training rows, which its dummy predicts.
    """

    segments: np.ndarray
    days: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    mean_label: float

    def take(self, chosen: np.ndarray) -> "HoldoutScores":
        """The chosen rows."""
        return HoldoutScores(
            self.segments[chosen], self.days[chosen], self.scores[chosen], self.labels[chosen], self.mean_label
        )


@dataclass(frozen=True)
class HoldoutSummary:
    """What rows of a holdout are kept as: the model's metrics on them, their ranges of scores, and scores and labels."""

    evaluation: Evaluation
    profile: ScoreProfile
    scores: FeatureReference
    labels: FeatureReference


def find_sharing(serving: Collection[str], levels: Sequence[Sequence[str]]) -> frozenset[str]:
    """The serving parents that share their rows with serving models below them.

    >>> sorted(find_sharing({"all", "UA", "UA~r1", "AA~r1"}, [("carrier", "route"), ("carrier",), ()]))
    ['UA', 'all']
    """
    return frozenset(parent for segment in serving for parent in _lineage(segment, levels)[1:] if parent in serving)


def keep_left_over(
    holdout: HoldoutScores, segment: str, serving: Collection[str], levels: Sequence[Sequence[str]]
) -> HoldoutScores:
    """The rows of a parent's holdout that `segment`, the parent, scores itself among the models that serve."""
    row_of, names = pd.factorize(holdout.segments)
    servers = (next((key for key in _lineage(str(name), levels) if key in serving), None) for name in names)
    mine = np.array([server == segment for server in servers], dtype=bool)
    return holdout.take(mine[row_of])


def summarise_holdout(spec: ModelLineSpec, holdout: HoldoutScores) -> HoldoutSummary:
    """What a training keeps of a whole holdout, of these rows."""
    scores, labels = holdout.scores, holdout.labels
    dummy = evaluate_metrics(spec.task, labels, np.full(len(labels), holdout.mean_label))
    return HoldoutSummary(
        evaluation=Evaluation(spec.metric, len(labels), evaluate_metrics(spec.task, labels, scores), dummy, {}),
        profile=build_score_profile(scores, labels),
        scores=build_reference(PREDICTION, pd.Series(scores), holdout.days),
        labels=build_reference(LABEL, pd.Series(labels), holdout.days),
    )


def _lineage(segment: str, levels: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """A segment and its parents; of a key from a hierarchy that the line no longer has, only itself."""
    is_known = len(segment_values(segment)) in {len(columns) for columns in levels}
    return (segment, *ancestors(segment, levels)) if is_known else (segment,)
