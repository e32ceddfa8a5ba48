"""The features and labels of the whole year as the factory makes them: real ingestion, real dbt build."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.source import SourceSpec
from factory_assets.demo.flights import open_flight_data
from factory_assets.demo.replay import Replay
from factory_assets.storage.clock import FactoryClock
from factory_assets.storage.dbt.runs import DbtRuns
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.landing import find_files
from factory_assets.storage.tables.bronze import BronzeWriter

_ROOT = Path(__file__).parents[2]
_DEFS = _ROOT / "factory_assets" / "defs"
_ZONE = "America/New_York"
_FIRST, _LAST = date(2013, 1, 1), date(2013, 12, 31)
_AFTER = datetime(2014, 1, 4, tzinfo=UTC)


def build_year(folder: Path) -> Lake:
    """A lake with every table that dbt makes of 2013, after all late outcomes; features hold what was known at their moment.

    Raises:
        RuntimeError: when the dbt build does not succeed.
    """
    lake = Lake(str(folder / "lake"))
    Replay(open_flight_data(), folder / "landing", FactoryClock(folder / "clock.json")).land(_FIRST, _LAST)
    days = [str(_FIRST + timedelta(days=n)) for n in range((_LAST - _FIRST).days + 1)]
    for declared in sorted((_DEFS / "sources").glob("*/defs.yaml")):
        spec = SourceSpec.model_validate(_attributes(declared))
        files = find_files(folder / "landing", spec, days if spec.partitions == "daily" else [])
        BronzeWriter(lake, spec, _ZONE).ingest(files, _AFTER)
    outcome = DbtRuns(_ROOT / "dbt_project", folder / "dbt", lake.root).build([])
    if not outcome.success:
        raise RuntimeError(f"dbt build of the year failed: {', '.join(outcome.failures)}")
    return lake


def read_lines(names: Sequence[str]) -> list[ModelLineSpec]:
    """The demo's declarations."""
    folder = _DEFS / "model_lines"
    return [ModelLineSpec.model_validate(_attributes(folder / name / "defs.yaml")) for name in names]


def _attributes(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["attributes"]
    return found
