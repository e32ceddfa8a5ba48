"""The one writer of `ops/drift_samples`: some training rows of a version, for what no summary of columns shows.

Bounded: so many rows a version as the line says, and of a line only the version that serves and the newest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from factory_assets.core.models.features import numeric_values
from factory_assets.storage.delta.lake import Lake, TableSpec
from factory_assets.storage.sql import literal

DRIFT_SAMPLES = TableSpec(
    name="ops/drift_samples",
    schema=pa.schema(
        [
            ("line", pa.string()),
            ("version", pa.int64()),
            ("row", pa.int64()),
            ("day", pa.int64()),
            ("share", pa.float64()),
            ("numbers", pa.list_(pa.float64())),
            ("texts", pa.list_(pa.string())),
        ]
    ),
    keys=("line", "version", "row"),
    partition_by=("line",),
    sort_by=("version", "row"),
)


@dataclass(frozen=True)
class TrainingSample:
    """Some training rows of a version: a column a feature, the day of each, and which share of all they are."""

    frame: pd.DataFrame
    days: np.ndarray
    share: float


@dataclass(frozen=True)
class DriftSamples:
    """Writes and reads the samples of all lines."""

    lake: Lake

    def record(
        self,
        line: str,
        version: int,
        sample: TrainingSample,
        numeric: Sequence[str],
        categorical: Sequence[str],
        serving: int | None,
    ) -> None:
        """Keeps the sample of a version, and of the others only that of the one that serves; again changes nothing.

        Args:
            line: the model line.
            version: of the model of all rows.
            sample: its rows.
            numeric: the version's numeric features, in the order that it is recorded with.
            categorical: its text features, likewise.
            serving: the version that serves until now.
        """
        count = len(sample.days)
        numbers = [numeric_values(sample.frame[name]) for name in numeric]
        texts = [sample.frame[name].astype(object).where(sample.frame[name].notna(), None) for name in categorical]
        columns = {
            "line": [line] * count,
            "version": [version] * count,
            "row": range(count),
            "day": sample.days,
            "share": [sample.share] * count,
            "numbers": list(np.column_stack(numbers)) if numbers else [[]] * count,
            "texts": [[None if text is None else str(text) for text in row] for row in zip(*texts, strict=True)]
            if texts
            else [[]] * count,
        }
        schema = DRIFT_SAMPLES.schema
        rows = pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)
        predicate = f"line = {literal(line)}"
        if serving is not None and serving != version:
            predicate += f" and version <> {literal(serving)}"
        self.lake.replace(DRIFT_SAMPLES, rows, predicate)

    def read(self, line: str, version: int, numeric: Sequence[str], categorical: Sequence[str]) -> TrainingSample | None:
        """The sample of a version, its columns named as `record` was told; None when none was kept."""
        found = self.lake.find(DRIFT_SAMPLES.name)
        if found is None:
            return None
        sql = "select day, share, numbers, texts from t where line = ? and version = ? order by row"
        rows = self.lake.query(sql, [line, version], t=found)
        if not rows.num_rows:
            return None
        numbers = rows["numbers"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(rows.num_rows, -1)
        frame = pd.DataFrame(numbers, columns=list(numeric))
        texts = rows["texts"].combine_chunks().flatten()
        for place, name in enumerate(categorical):
            chosen = pa.array(np.arange(place, len(texts), len(categorical)))
            frame[name] = texts.take(chosen).to_pandas().astype("str")
        return TrainingSample(frame, rows["day"].to_numpy(), float(rows["share"][0].as_py()))
