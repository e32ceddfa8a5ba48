"""The one writer of `ops/drift_references`: what each model version's training rows looked like, feature by feature.

Compact, so that a fleet's references are read in one sweep: 1,000 segments of 12 features are 12,000 rows and 3 MB.
`edges` and `counts` are packed (`core/drift/packing.py`); in a table of an older release they are lists, which are packed
where they are read, and for good before the first write.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from factory_assets.contracts.reports import FeatureReference, ScoreProfile
from factory_assets.core.drift.packing import FLOATS, INTEGERS, pack, pack_lists, unpack
from factory_assets.storage.delta.lake import Lake, PinnedTable, TableSpec
from factory_assets.storage.sql import equals_any

_NUMBERS, _COUNTS = pa.list_(pa.float64()), pa.list_(pa.int64())
DRIFT_REFERENCES = TableSpec(
    name="ops/drift_references",
    schema=pa.schema(
        [
            ("line", pa.string()),
            ("segment", pa.string()),
            ("version", pa.int64()),
            ("feature", pa.string()),
            ("edges", pa.binary()),
            ("categories", pa.list_(pa.string())),
            ("counts", pa.binary()),
            ("spread", pa.float64()),
            ("discrete", pa.bool_()),
            ("design_effect", pa.float64()),
            ("profile_cuts", _NUMBERS),
            ("profile_rows", _COUNTS),
            ("profile_mean_label", _NUMBERS),
            ("profile_mean_absolute_error", _NUMBERS),
            ("profile_mean_squared_error", _NUMBERS),
        ]
    ),
    keys=("line", "segment", "version", "feature"),
    partition_by=("line",),
    sort_by=("version", "segment", "feature"),
)
PREDICTION, LABEL = "prediction", "label"
_PACKED = {"edges": FLOATS, "counts": INTEGERS}
_SEGMENTS_A_BATCH = 64


@dataclass(frozen=True)
class Serving:
    """Which reference the rows of a segment are compared with: that of `model_segment` at `version`."""

    segment: str
    model_segment: str
    version: int


@dataclass(frozen=True)
class DriftReferences:
    """Writes and reads the references of all lines."""

    lake: Lake

    def record(
        self,
        line: str,
        version: int,
        references: Mapping[str, Sequence[FeatureReference]],
        profiles: Mapping[str, ScoreProfile] | None = None,
    ) -> None:
        """Writes the references of one version's segments; writing them again changes nothing.

        The segments are looked up some at a time, in their order, so that a mapping which reads them from elsewhere never
        has them all in memory.

        Args:
            line: the model line.
            version: the version number that the segments share.
            references: by segment key: one entry a feature, with "prediction" and "label" among them.
            profiles: by segment key, kept beside the reference of "prediction".
        """
        segments = sorted(references)

        def batches() -> Iterator[pa.RecordBatch]:
            for start in range(0, len(segments), _SEGMENTS_A_BATCH):
                some = {segment: references[segment] for segment in segments[start : start + _SEGMENTS_A_BATCH]}
                yield _to_batch(line, version, some, profiles or {})

        self._pack_for_good()
        predicate = " and ".join(
            (equals_any("line", [line]), equals_any("version", [version]), equals_any("segment", segments))
        )
        self.lake.replace_in_order(DRIFT_REFERENCES, batches, predicate)

    def read_feature(self, line: str, feature: str, versions: Mapping[str, int]) -> dict[str, FeatureReference]:
        """One feature's reference of each of these models, by segment; one of which none was recorded is absent."""
        return {row["segment"]: _to_reference(row) for row in self._rows(line, feature, versions)}

    def read_profiles(self, line: str, versions: Mapping[str, int]) -> dict[str, ScoreProfile]:
        """What the holdouts of these models say of their scores, by segment; one of which nothing was recorded is absent."""
        rows = self._rows(line, PREDICTION, versions)
        return {
            row["segment"]: ScoreProfile(*(tuple(row[f"profile_{name}"]) for name in _PROFILE_COLUMNS))
            for row in rows
            if row["profile_cuts"] is not None
        }

    def _rows(self, line: str, feature: str, versions: Mapping[str, int]) -> list[dict[str, Any]]:
        found = self.lake.find(DRIFT_REFERENCES.name)
        if found is None or not versions:
            return []
        segments, numbers = pa.array(list(versions), pa.string()), pa.array(versions.values(), pa.int64())
        wanted = pa.table({"segment": segments, "version": numbers})
        sql = "select * from t semi join wanted using (segment, version) where line = ? and feature = ?"
        rows = pack_columns(self.lake.query(sql, [line, feature], t=found, wanted=wanted))
        return list(rows.to_pylist())

    def _pack_for_good(self) -> None:
        """Writes the table of an older release again, with packed numbers."""

        def packed(rows: pa.Table) -> pa.Table:
            return pack_columns(rows).select(DRIFT_REFERENCES.schema.names)

        references = self.lake.find(DRIFT_REFERENCES.name)
        if references is not None and not pa.types.is_binary(references.dataset().schema.field("edges").type):
            self.lake.rewrite(DRIFT_REFERENCES, packed)


def to_served(serving: Sequence[Serving]) -> pa.Table:
    """A row for each of them, and its place among them."""
    return pa.table(
        {
            "place": pa.array(range(len(serving)), pa.int32()),
            "segment": [entry.segment for entry in serving],
            "model_segment": [entry.model_segment for entry in serving],
            "version": pa.array([entry.version for entry in serving], pa.int64()),
        }
    )


def pack_columns(rows: pa.Table) -> pa.Table:
    """The rows with packed numbers, whichever release wrote them."""
    for place, column in enumerate(rows.schema):
        if column.name in _PACKED and not pa.types.is_binary(column.type):
            rows = rows.set_column(place, column.name, pack_lists(rows[column.name], _PACKED[column.name]))
    return rows


def read_serving(references: PinnedTable, line: str, served: pa.Table, features: Sequence[str]) -> pa.Table:
    """The references of these features that serve: by the `place` of their segment, then by feature.

    Joined by their keys alone: to carry the cells through a join costs more than to read them.
    """
    versions = served["version"].unique()
    where = (pc.field("line") == line) & pc.field("version").isin(versions) & pc.field("feature").isin(list(features))
    rows = pack_columns(references.read(_SERVING_COLUMNS, where))
    keyed = rows.select(["segment", "version", "feature"]).append_column("row", pa.array(np.arange(len(rows))))
    joined = served.join(keyed, ["model_segment", "version"], ["segment", "version"], "inner")
    joined = joined.sort_by([("place", "ascending"), ("feature", "ascending")])
    if not joined["row"].equals(keyed["row"]):
        rows = rows.take(joined["row"])
    return rows.append_column("place", joined["place"])


_SERVING_COLUMNS = ("segment", "version", "feature", "edges", "counts", "spread", "discrete", "design_effect")
_REFERENCE_COLUMNS = tuple(FeatureReference.__dataclass_fields__)
_PROFILE_COLUMNS = tuple(ScoreProfile.__dataclass_fields__)


def _to_reference(row: Mapping[str, Any]) -> FeatureReference:
    return FeatureReference(
        row["feature"],
        unpack(row["edges"], FLOATS),
        tuple(row["categories"]),
        unpack(row["counts"], INTEGERS),
        row["spread"],
        row["discrete"],
        row["design_effect"],
    )


def _to_batch(
    line: str, version: int, references: Mapping[str, Sequence[FeatureReference]], profiles: Mapping[str, ScoreProfile]
) -> pa.RecordBatch:
    """The rows of some segments, in the table's order."""
    rows = [(s, reference) for s, found in references.items() for reference in sorted(found, key=lambda r: r.feature)]
    kept = [profiles.get(segment) if r.feature == PREDICTION else None for segment, r in rows]
    columns = {
        "line": [line] * len(rows),
        "segment": [segment for segment, _ in rows],
        "version": [version] * len(rows),
        **{name: [getattr(r, name) for _, r in rows] for name in _REFERENCE_COLUMNS},
        **{name: [pack(getattr(r, name), kind) for _, r in rows] for name, kind in _PACKED.items()},
        **{f"profile_{name}": [getattr(p, name, None) for p in kept] for name in _PROFILE_COLUMNS},
    }
    schema = DRIFT_REFERENCES.schema
    return pa.record_batch([pa.array(columns[f.name], f.type) for f in schema], schema=schema)
