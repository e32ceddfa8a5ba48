"""The holdouts of a cycle's parents, by the segments of their rows."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from factory_assets.core.segments import segment_keys
from factory_assets.core.serving.left_over import HoldoutScores
from factory_assets.core.training.time_split import HOLDOUT, TRAIN
from factory_assets.lines.planning import Plan


def gather_holdouts(plan: Plan, scores: Mapping[str, np.ndarray]) -> dict[str, HoldoutScores]:
    """What the parents among these models scored on their holdouts; a segment at the bottom serves all of its own.

    Args:
        plan: of the cycle.
        scores: by the segment of each model that was fitted, its scores on the holdout and then the exam.
    """
    spec, rows = plan.job.spec, plan.rows
    found = {}
    for node in plan.nodes:
        if node.level == 0 or node.segment not in scores:
            continue
        places = rows.of(node, HOLDOUT)
        if not len(places):
            continue
        keys = segment_keys(plan.table.select([*spec.segment_by]).take(pa.array(places)), spec.segment_by)
        found[node.segment] = HoldoutScores(
            segments=keys.dictionary_decode().to_numpy(zero_copy_only=False),
            days=rows.days[places],
            scores=scores[node.segment][: len(places)],
            labels=rows.labels[places].astype(np.float64),
            mean_label=float(rows.labels[rows.of(node, TRAIN)].mean()),
        )
    return found
