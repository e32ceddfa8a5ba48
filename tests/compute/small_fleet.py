"""A fleet of four carriers whose fits take a moment, for comparing the models that the backends give."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from factory_assets.compute.chunks import plan_chunks
from factory_assets.compute.fan_out import FanOut
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.core.segments import lay_out
from factory_assets.core.training.segment_training import SegmentTask, build_job, fit_chunk

NOW = datetime(2013, 7, 1, tzinfo=UTC)
SPEC = ModelLineSpec.model_validate(
    {
        "name": "delay",
        "feature_set": "feat_flight",
        "entity": ["flight_id"],
        "as_of": "departs_utc",
        "label": {"model": "fct_flight", "column": "late", "known_at": "known_utc"},
        "features": ["delay", "gate"],
        "segment_by": ["carrier"],
        "estimator": "sklearn.ensemble.HistGradientBoostingClassifier",
        "params": {"max_iter": 5},
        "search": {"space": {"max_depth": [2, 3]}, "folds": 1},
        "validation": {"min_rows": 50},
    }
)


def hashes_by(fan_out: FanOut, workers: int, fit: Callable[..., Any] = fit_chunk) -> dict[str, str]:
    """The SHA-256 of every model of the fleet, as this backend fits it; `fit` takes what `fit_chunk` does."""
    random = np.random.default_rng(0)
    rows = 800
    delay = random.normal(size=rows)
    frame = {
        "flight_id": np.arange(rows),
        "departs_utc": pa.array([NOW - timedelta(hours=3 * (rows - row)) for row in range(rows)], pa.timestamp("us", "UTC")),
        "carrier": random.choice(["AA", "B6", "DL", "UA"], size=rows),
        "delay": delay,
        "gate": random.choice(["C1", "C2"], size=rows),
        "label": (delay + random.normal(size=rows) > 0).astype(float),
    }
    table, nodes = lay_out(pa.table(frame), SPEC.levels)
    tasks = [SegmentTask(node) for node in nodes]
    chunks = plan_chunks(tasks, lambda task: task.node.length, workers)
    found = dict(fan_out.map(partial(fit, build_job(SPEC, table, NOW)), chunks, table))
    return {task.node.segment: result.model.sha256 for task, result in found.items()}
