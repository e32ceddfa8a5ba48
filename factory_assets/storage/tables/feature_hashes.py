"""The one writer of `ops/feature_hashes`: what scoring saw of a sample of rows, to be held against what training sees."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.reports import SkewReport
from factory_assets.core.models.features import hash_columns, sample_places
from factory_assets.storage.delta.lake import UTC_TIMESTAMP, Lake, TableSpec
from factory_assets.storage.sql import equals_any, literal
from factory_assets.storage.tables.predictions import DAY_COLUMN

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
    """A hash of each feature for a sample of each scored day of one line; a day scored again replaces its own."""

    lake: Lake
    spec: ModelLineSpec

    def record(self, rows: pa.Table, features: Sequence[str], feature_set_version: int, now: datetime) -> int:
        """Keeps a sample of each day of the rows that were scored; returns how many.

        Args:
            rows: with the line's row key, the features as they were scored, and the day; without a gap in time.
            features: the models' features.
            feature_set_version: the Delta version they were read from.
            now: factory time.
        """
        if not rows.num_rows:
            return 0
        keys = self._keys(rows)
        places = _sample_days(keys, rows[DAY_COLUMN].to_numpy(), self.spec.skew.sample)
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
        # All that was kept of this span: a row that is in the sample no longer was scored again like any other.
        first, last = pc.min_max(rows[self.spec.as_of].cast(UTC_TIMESTAMP)).as_py().values()
        span = f"as_of_utc >= {literal(first)} and as_of_utc <= {literal(last)}"
        self.lake.replace(FEATURE_HASHES, table, f"{equals_any('line', [self.spec.name])} and {span}")
        return count

    def read_moments(self) -> pa.Table:
        """The as-of times of all sampled rows of the line: the column `as_of_utc`."""
        return self._read(["as_of_utc"])

    def forget_before(self, moment: datetime) -> None:
        """Drops the sampled rows of the line that are older than `moment`."""
        older = f"{equals_any('line', [self.spec.name])} and as_of_utc < {literal(moment)}"
        self.lake.replace(FEATURE_HASHES, FEATURE_HASHES.schema.empty_table(), older)

    def compare(self, rows: pa.Table, timezone: str) -> SkewReport:
        """Holds rows as training sees them against what scoring saw of those that were sampled.

        Args:
            rows: with the row key and the features; rows that were not sampled are left out.
            timezone: cuts the days of the report.
        """
        sample = self._read(["row_key", "features", "hashes"], rows[self.spec.as_of].cast(UTC_TIMESTAMP))
        seen = {row["row_key"]: dict(zip(row["features"], row["hashes"], strict=True)) for row in sample.to_pylist()}
        keys = self._keys(rows)
        places = [place for place, key in enumerate(keys) if key in seen]
        if not places:
            return SkewReport()
        frame = rows.take(pa.array(places, pa.int64())).to_pandas()
        days = frame[self.spec.as_of].dt.tz_convert(timezone).dt.date.tolist()
        names = sorted({name for place in places for name in seen[keys[place]] if name in frame.columns})
        by_feature, by_day = Counter[str](), Counter[str]()
        for place, day, hashes in zip(places, days, hash_columns(frame, names).tolist(), strict=True):
            known = seen[keys[place]]
            differing = [name for name, value in zip(names, hashes, strict=True) if known.get(name, value) != value]
            by_feature.update(differing)
            by_day.update([day.isoformat()] * bool(differing))
        return SkewReport(len(places), min(days), max(days), dict(by_feature), dict(sorted(by_day.items())))

    def _read(self, columns: list[str], moments: pa.ChunkedArray | None = None) -> pa.Table:
        kept = self.lake.find(FEATURE_HASHES.name)
        if kept is None:
            return pa.schema([FEATURE_HASHES.schema.field(name) for name in columns]).empty_table()
        sql, values = f"select {', '.join(columns)} from t where line = ?", [self.spec.name]
        if moments is None:
            return self.lake.query(sql, values, t=kept)
        span = list(pc.min_max(moments).as_py().values())
        return self.lake.query(f"{sql} and as_of_utc between ? and ?", [*values, *span], t=kept)

    def _keys(self, rows: pa.Table) -> np.ndarray:
        columns = [rows[name].cast(pa.string()).fill_null("").to_pylist() for name in self.spec.row_key]
        return np.array(["\x1f".join(values) for values in zip(*columns, strict=True)], dtype=object)


def _sample_days(keys: np.ndarray, days: np.ndarray, size: int) -> np.ndarray:
    _, numbers = np.unique(days, return_inverse=True)
    order = np.argsort(numbers, kind="stable")
    of_each = np.split(order, np.cumsum(np.bincount(numbers))[:-1])
    return np.sort(np.concatenate([places[sample_places(keys[places], size)] for places in of_each]))
