"""Made-up fleets of standard normals, as Delta tables, and the references of their models."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa

from factory_assets.core.drift import numeric_references
from factory_assets.storage.delta.lake import Lake, TableSpec
from factory_assets.storage.tables.drift_references import DriftReferences, Serving
from factory_assets.storage.tables.drift_windows import Window

LINE = "fleet"
START = datetime(2013, 1, 1, tzinfo=UTC)
DAY_MICROSECONDS = 86_400_000_000


def make_rows(
    random: np.random.Generator,
    segments: int,
    features: int,
    days: range,
    rows_a_day: int,
    shifted: int = 0,
    shift: float = 0.0,
) -> pd.DataFrame:
    """`rows_a_day` rows of each segment on each day; the first feature of the first `shifted` segments is moved."""
    rows = segments * rows_a_day * len(days)
    frame = pd.DataFrame(random.normal(size=(rows, features)), columns=[f"f{n}" for n in range(features)])
    segment = np.tile(np.repeat(np.arange(segments), rows_a_day), len(days))
    frame["day"] = np.repeat(np.array(days), segments * rows_a_day)
    frame.loc[segment < shifted, "f0"] += shift
    frame["segment"] = pd.Categorical.from_codes(segment, [f"s{n:04d}" for n in range(segments)]).astype("str")
    return frame


def write_rows(lake: Lake, name: str, frame: pd.DataFrame) -> None:
    """Writes rows in order of time, as they arrive; `at` is the noon of their day."""
    moments = int(START.timestamp() * 1e6) + frame["day"].to_numpy() * DAY_MICROSECONDS + DAY_MICROSECONDS // 2
    table = pa.Table.from_pandas(frame.drop(columns="day"), preserve_index=False)
    table = table.append_column("at", pa.array(moments, pa.int64()).cast(pa.timestamp("us", "UTC")))
    lake.replace(TableSpec(name, table.schema, (), (), ("at",)), table)


def keep_references(lake: Lake, frame: pd.DataFrame) -> list[Serving]:
    """What training keeps of the rows, and which reference serves which segment."""
    features = [name for name in frame.columns if name.startswith("f")]
    made = {
        str(segment): tuple(numeric_references(features, rows[features].to_numpy(), rows["day"].to_numpy()))
        for segment, rows in frame.groupby("segment")
    }
    DriftReferences(lake).record(LINE, 1, made)
    return [Serving(segment, segment, 1) for segment in sorted(made)]


def open_window(lake: Lake, name: str, features: int, first: datetime, end: datetime) -> Window:
    """The rows of a span of days."""
    named = {f"f{n}": f"f{n}" for n in range(features)}
    return Window.of_table(lake.pin(name), named, "at", (first, end), "segment")
