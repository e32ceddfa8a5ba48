"""One row a line, as the lake has it: the table that `factory status` and the demo print."""

from dataclasses import dataclass
from importlib.resources import files

import pyarrow as pa

from factory_assets.storage.check_results import CHECK_RESULTS
from factory_assets.storage.delta import Lake
from factory_assets.storage.model_versions import MODEL_VERSIONS, PROMOTIONS
from factory_assets.storage.retrain_ledger import RETRAIN_LEDGER


@dataclass(frozen=True)
class LineSummary:
    """What the lake says of one line."""

    line: str
    segments: int
    champion_version: int | None
    metric: str | None
    value: float | None
    baseline_value: float | None
    predictions: int
    checks_passed: int
    checks_failed: int
    retrains: tuple[str, ...]


def summary_sql() -> str:
    """The query behind the table, as the documentation gives it."""
    return files("factory_assets.lines").joinpath("summary.sql").read_text(encoding="utf-8")


def summarise(lake: Lake, lines: list[str]) -> list[LineSummary]:
    """Summaries of `lines`, by name; zeros for a line that has done nothing yet."""
    tables: dict[str, pa.Table] = {"lines": pa.table({"line": pa.array(sorted(lines), pa.string())})}
    for spec in (MODEL_VERSIONS, PROMOTIONS, RETRAIN_LEDGER, CHECK_RESULTS):
        pinned = lake.find(spec.name)
        tables[spec.name.split("/")[1]] = lake.query("from t", t=pinned) if pinned else spec.schema.empty_table()
    counted = []
    for line in sorted(lines):
        pinned = lake.find(f"predictions/{line}")
        counted.append({"line": line, "predictions": pinned.row_count if pinned else 0})
    schema = pa.schema([("line", pa.string()), ("predictions", pa.int64())])
    tables["prediction_counts"] = pa.Table.from_pylist(counted, schema=schema)
    rows = lake.query(summary_sql(), **tables).to_pylist()
    return [LineSummary(**{**row, "retrains": tuple(row["retrains"] or ())}) for row in rows]
