"""The one writer of `ops/feature_hashes`: what scoring saw of a sample of rows, to be held against what training sees."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa

from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.core.models.features import hash_columns, sample_places
from factory_assets.storage.delta.lake import UTC_TIMESTAMP, Lake, TableSpec
from factory_assets.storage.sql import equals_any

FEATURE_HASHES = TableSpec(
    name="ops/feature_hashes",
    schema=pa.schema(
        [
            ("line", pa.string()),
            ("row_key", pa.string()),
            ("as_of_utc", UTC_TIMESTAMP),
            ("feature_set_version", pa.int64()),
            ("scored_at_utc", UTC_TIMESTAMP),
            ("features", pa.list_(pa.string())),
            ("hashes", pa.list_(pa.int64())),
        ]
    ),
    keys=("line", "row_key"),
    partition_by=("line",),
    sort_by=("as_of_utc", "row_key"),
)


@dataclass(frozen=True)
class FeatureHashes:
    """A hash of each feature for a sample of the scored rows of one line; a row scored again replaces its own."""

    lake: Lake
    spec: ModelLineSpec

    def record(self, rows: pa.Table, features: Sequence[str], feature_set_version: int, now: datetime) -> int:
        """Keeps the sample of the rows that were scored; returns how many.

        Args:
            rows: with the line's row key and the features, as they were scored.
            features: the models' features.
            feature_set_version: the Delta version they were read from.
            now: factory time.
        """
        keys = self._keys(rows)
        places = sample_places(keys, self.spec.skew.sample)
        if not len(places):
            return 0
        chosen = rows.take(pa.array(places))
        names = sorted(features)
        hashes = hash_columns(chosen.select(names).to_pandas(), names)
        count = len(places)
        table = pa.table(
            {
                "line": [self.spec.name] * count,
                "row_key": keys[places].tolist(),
                "as_of_utc": chosen[self.spec.as_of],
                "feature_set_version": pa.array([feature_set_version] * count, pa.int64()),
                "scored_at_utc": pa.array([now] * count, UTC_TIMESTAMP),
                "features": pa.array([names] * count, pa.list_(pa.string())),
                "hashes": pa.array(hashes.tolist(), pa.list_(pa.int64())),
            }
        )
        predicate = f"{equals_any('line', [self.spec.name])} and {equals_any('row_key', table['row_key'].to_pylist())}"
        self.lake.replace(FEATURE_HASHES, table, predicate)
        return count

    def read_sample(self) -> pa.Table:
        """What scoring saw of each sampled row of the line: row key, as-of time, names and hashes of its features."""
        kept = self.lake.find(FEATURE_HASHES.name)
        columns = ["row_key", "as_of_utc", "features", "hashes"]
        if kept is None:
            return pa.schema([FEATURE_HASHES.schema.field(name) for name in columns]).empty_table()
        return self.lake.query(f"select {', '.join(columns)} from t where line = ?", [self.spec.name], t=kept)

    def compare(self, sample: pa.Table, rows: pa.Table) -> tuple[int, dict[str, int]]:
        """Holds rows as training sees them against what scoring saw of those that were sampled.

        Args:
            sample: of `read_sample`.
            rows: with the row key and the features; rows that were not sampled are left out.

        Returns:
            How many rows were compared, and by feature how many of them differ.
        """
        seen = {row["row_key"]: (row["features"], row["hashes"]) for row in sample.to_pylist()}
        keys = self._keys(rows)
        places = [place for place, key in enumerate(keys) if key in seen]
        frame = rows.take(pa.array(places, pa.int64())).to_pandas()
        differing: dict[str, int] = {}
        wanted = sorted({name for place in places for name in seen[keys[place]][0] if name in frame.columns})
        now = dict(zip(wanted, hash_columns(frame, wanted).T.tolist(), strict=True)) if places else {}
        for position, place in enumerate(places):
            for name, value in zip(*seen[keys[place]], strict=True):
                if name in now and now[name][position] != value:
                    differing[name] = differing.get(name, 0) + 1
        return len(places), differing

    def _keys(self, rows: pa.Table) -> np.ndarray:
        columns = [rows[name].cast(pa.string()).fill_null("").to_pylist() for name in self.spec.row_key]
        return np.array(["\x1f".join(values) for values in zip(*columns, strict=True)], dtype=object)
