"""The lines and their retrains as the lake has them: what `factory status` and the demo print."""

from dataclasses import dataclass
from importlib.resources import files

import pyarrow as pa

from factory_assets.storage.delta.lake import Lake, TableSpec
from factory_assets.storage.tables.check_results import CHECK_RESULTS
from factory_assets.storage.tables.model_versions import MODEL_VERSIONS, PROMOTIONS
from factory_assets.storage.tables.retrain_ledger import RETRAIN_LEDGER, find_ledger
from factory_assets.storage.tables.training_cycles import TRAINING_CYCLES


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
    retrains: int


@dataclass(frozen=True)
class Retrain:
    """One retrain that ended: when by the factory clock, why, and what the gate said."""

    day: str
    line: str
    causes: tuple[str, ...]
    outcome: str
    reason: str


def read_sql(name: str) -> str:
    """The text of a query of this folder, `summary` or `retrains`; the documentation gives the same text."""
    return files("factory_assets.lines").joinpath(f"{name}.sql").read_text(encoding="utf-8")


def summarise(lake: Lake, lines: list[str]) -> list[LineSummary]:
    """Summaries of `lines`, by name; zeros for a line that has done nothing yet."""
    tables = {spec.name.removeprefix("ops/"): _read(lake, spec) for spec in _TABLES}
    tables["lines"] = pa.table({"line": pa.array(sorted(lines), pa.string())})
    counted = [(line, lake.find(f"predictions/{line}")) for line in sorted(lines)]
    counts = [{"line": line, "predictions": pinned.row_count if pinned else 0} for line, pinned in counted]
    schema = pa.schema([("line", pa.string()), ("predictions", pa.int64())])
    tables["prediction_counts"] = pa.Table.from_pylist(counts, schema=schema)
    return [LineSummary(**row) for row in lake.query(read_sql("summary"), **tables).to_pylist()]


def list_retrains(lake: Lake) -> list[Retrain]:
    """Every retrain that ended, oldest first."""
    rows = lake.query(read_sql("retrains"), retrain_ledger=_read(lake, RETRAIN_LEDGER)).to_pylist()
    return [Retrain(**{**row, "causes": tuple(row["causes"])}) for row in rows]


_TABLES = (MODEL_VERSIONS, PROMOTIONS, TRAINING_CYCLES, RETRAIN_LEDGER, CHECK_RESULTS)


def _read(lake: Lake, spec: TableSpec) -> pa.Table:
    pinned = find_ledger(lake) if spec is RETRAIN_LEDGER else lake.find(spec.name)
    return spec.schema.empty_table() if pinned is None else lake.query("from t", t=pinned)
