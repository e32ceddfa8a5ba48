"""The one writer of `ops/holdout_scores`: what the parents of a fleet scored on their holdouts, by the rows' own segments.

A parent serves what the models below it leave over, and those come and go; so its holdout is kept in parts that can be put
together for any of them. Bounded: of each parent only the version that serves and the newest.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from factory_assets.core.serving.left_over import HoldoutScores
from factory_assets.storage.delta.lake import Lake, TableSpec
from factory_assets.storage.sql import equals_any, literal

HOLDOUT_SCORES = TableSpec(
    name="ops/holdout_scores",
    schema=pa.schema(
        [
            ("line", pa.string()),
            ("model_segment", pa.string()),
            ("model_version", pa.int64()),
            ("segment", pa.string()),
            ("mean_label", pa.float64()),
            ("days", pa.list_(pa.int64())),
            ("scores", pa.list_(pa.float64())),
            ("labels", pa.list_(pa.float64())),
        ]
    ),
    keys=("line", "model_segment", "model_version", "segment"),
    partition_by=("line",),
    sort_by=("model_version", "model_segment", "segment"),
)


@dataclass(frozen=True)
class HoldoutScoresTable:
    """Writes and reads the scores on holdouts of all lines."""

    lake: Lake

    def record(self, line: str, version: int, holdouts: Mapping[str, HoldoutScores], serving: Mapping[str, int]) -> None:
        """Keeps the holdouts of a version, and of the same parents' others only those that serve; again changes nothing.

        Args:
            line: the model line.
            version: of the parents.
            holdouts: by parent.
            serving: the version of each segment that serves until now.
        """
        if not holdouts:
            return
        rows = [
            (line, parent, version, segment, holdout.mean_label, part.days, part.scores, part.labels)
            for parent, holdout in holdouts.items()
            for segment, part in _parts(holdout)
        ]
        schema = HOLDOUT_SCORES.schema
        columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), schema, strict=True)]
        table = pa.table(columns, schema=schema)
        replaced = [
            f"{equals_any('model_segment', [parent])} and model_version <> {literal(serving[parent])}"
            if serving.get(parent, version) != version
            else equals_any("model_segment", [parent])
            for parent in holdouts
        ]
        where = " or ".join(f"({condition})" for condition in replaced)
        self.lake.replace(HOLDOUT_SCORES, table, f"{equals_any('line', [line])} and ({where})")

    def read(self, line: str, versions: Mapping[str, int]) -> dict[str, HoldoutScores]:
        """The holdouts of these parents in these versions; one of which nothing was kept is absent."""
        found = self.lake.find(HOLDOUT_SCORES.name)
        if found is None or not versions:
            return {}
        parents, numbers = pa.array(list(versions), pa.string()), pa.array(versions.values(), pa.int64())
        wanted = pa.table({"model_segment": parents, "model_version": numbers})
        sql = (
            "select model_segment, segment, mean_label, "
            "unnest(days) as day, unnest(scores) as score, unnest(labels) as label "
            "from (select * from t semi join wanted using (model_segment, model_version) where line = ? "
            "order by model_segment, segment)"
        )
        rows = self.lake.query(sql, [line], t=found, wanted=wanted).to_pandas()
        return {
            str(parent): HoldoutScores(
                segments=own["segment"].to_numpy(),
                days=own["day"].to_numpy(),
                scores=own["score"].to_numpy(),
                labels=own["label"].to_numpy(),
                mean_label=float(own["mean_label"].iloc[0]),
            )
            for parent, own in rows.groupby("model_segment")
        }


def _parts(holdout: HoldoutScores) -> list[tuple[str, HoldoutScores]]:
    """The rows of each segment, which has at least one."""
    row_of, names = pd.factorize(holdout.segments, sort=True)
    order = np.argsort(row_of, kind="stable")
    ends = np.cumsum(np.bincount(row_of, minlength=len(names)))
    places = np.split(order, ends[:-1]) if len(names) else []
    return [(str(name), holdout.take(mine)) for name, mine in zip(names, places, strict=True)]
