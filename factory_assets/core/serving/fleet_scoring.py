"""A mixed frame scored in one pass: each row by its segment's own model where that serves, else by the nearest parent's."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from factory_assets.contracts.model_line import Task
from factory_assets.core.models.features import prepare_features
from factory_assets.core.models.prediction import predict_prepared
from factory_assets.core.segments import segment_keys


@dataclass(frozen=True)
class ServingModel:
    """One model that serves: whose it is, what it reads, and the hash by which it is trusted."""

    segment: str
    sha256: str
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]


@dataclass(frozen=True)
class FleetScores:
    """Scores and who gave them, a row each.

    `scores`: float64, NaN where nothing serves. `segments`: the row's own key. `servers`: position of its model in
    `models`, -1 for none.
    """

    scores: np.ndarray
    segments: pa.DictionaryArray
    servers: np.ndarray
    models: tuple[ServingModel, ...]


def score_fleet(
    table: pa.Table,
    levels: Sequence[Sequence[str]],
    serving: Mapping[str, ServingModel],
    load: Callable[[ServingModel], Any],
    task: Task,
) -> FleetScores:
    """Scores rows, whether or not their segment was ever seen; each model is loaded once, and only if a row needs it.

    Args:
        table: the key columns of all levels and the features that the serving models read.
        levels: key columns from the segments to the root.
        serving: the models that serve, by segment.
        load: gives the fitted model; it must have checked the hash.
        task: of the line.

    Raises:
        KeyError: for an absent key column.
        ValueError: for an absent or mistyped feature column.
    """
    models = tuple(serving[segment] for segment in sorted(serving))
    position = {model.segment: place for place, model in enumerate(models)}
    servers = np.full(table.num_rows, -1, dtype=np.int64)
    own: pa.DictionaryArray | None = None
    for columns in levels:
        keys = segment_keys(table, columns)
        own = keys if own is None else own
        known = np.array([position.get(key, -1) for key in keys.dictionary.to_pylist()], dtype=np.int64)
        found = known[keys.indices.to_numpy(zero_copy_only=False)] if len(known) else servers
        servers = np.where(servers < 0, found, servers)
    order = np.argsort(servers, kind="stable")
    rows = table.select(_columns(models, table.column_names)).take(pa.array(order))
    scores = np.full(table.num_rows, np.nan)
    # Nearly always all models read the same features, which are then made ready once and not a thousand times.
    prepared: dict[tuple[tuple[str, ...], tuple[str, ...]], pd.DataFrame] = {}
    starts = np.flatnonzero(np.diff(servers[order], prepend=-2))
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), table.num_rows], strict=False):
        server = int(servers[order[start]])
        if server >= 0:
            model = models[server]
            reads = (model.numeric, model.categorical)
            if reads not in prepared:
                prepared[reads] = prepare_features(rows, *reads)
            scores[order[start:end]] = predict_prepared(load(model), prepared[reads].iloc[start:end], task)
    return FleetScores(scores, own if own is not None else segment_keys(table, ()), servers, models)


def _columns(models: Sequence[ServingModel], present: Sequence[str]) -> list[str]:
    wanted = {name for model in models for name in (*model.numeric, *model.categorical)}
    return [name for name in present if name in wanted]
