"""What `ops/costs` says of one whole run, against the kernel's accounting of its process and all that it started."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from factory_assets.lines.accounts import sum_cause_costs, sum_costs, sum_segment_costs
from factory_assets.settings import FactorySettings
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.tables.costs import Costs
from tests.dbt.conftest import make_sandbox
from tests.lines.fleet_fixture import RULES

ROOT = Path(__file__).parents[2]
Row = dict[str, Any]
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run has left its data.

    What a run does after its last piece of work, a seventh of a second, is not told; this one works for fifteen.
    """
    folder = tmp_path_factory.mktemp("costs")
    sandbox = make_sandbox(folder)
    tests = {"columns": [{"name": "n", "data_tests": ["not_null", "unique"]}]}
    sandbox.model("numbers", "select n from range(2000000) as r(n)", tests)
    sandbox.model("sums", "select n % 1000 as k, sum(n)::bigint as total from {{ ref('numbers') }} group by all")
    sandbox.model("waves", "select n % 1000 as k, sum(sin(n)) as total from range(150000000) as r(n) group by all")
    command = [sys.executable, "-W", "ignore", "-m", "tests.components.costed_run", str(folder)]
    environment = {**os.environ, "FACTORY_DATA_DIR": str(folder)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> tuple[Lake, list[Row], Row]:
    """The lake, the run's rows of `ops/costs`, and what the kernel says of its process, once that was waited for."""
    lake = Lake(FactorySettings(data_dir=folder).lake)
    return lake, Costs(lake).rows(), json.loads((folder / "used.json").read_text())


def test_all_that_the_runs_process_and_its_workers_used_is_in_the_costs(run) -> None:
    _, rows, used = run
    told = sum(row["cpu_seconds"] + row["overhead_cpu_seconds"] for row in rows)
    assert told == pytest.approx(used["cpu_seconds"], rel=0.02)


def test_costs_by_asset_line_segment_and_cause_add_up_to_the_run(run) -> None:
    lake, rows, _ = run
    assert {row["kind"] for row in rows} == {"dbt", "training_set", "models", "check"}
    assert {row["segment"] for row in rows if row["kind"] == "models"} >= set(RULES)
    whole = sum(row["cpu_seconds"] + row["overhead_cpu_seconds"] for row in rows)
    on_line = sum(row["cpu_seconds"] + row["overhead_cpu_seconds"] for row in rows if row["line"])
    price = sum(row["price"] for row in rows)
    by_line = sum_costs(lake, LONG_AGO)
    assert sum(row["cpu_seconds"] + row["overhead_cpu_seconds"] for row in by_line) == pytest.approx(whole)
    for name in ("price", "wall_seconds", "bytes_read", "bytes_written"):
        assert sum(row[name] for row in by_line) == pytest.approx(sum(row[name] for row in rows))
        assert max(row[name] for row in by_line) > 0
    assert price == pytest.approx(whole / 3600 * FactorySettings().price_per_cpu_hour)
    assert sum(row["cpu_seconds"] for row in sum_segment_costs(lake, LONG_AGO)) == pytest.approx(on_line)
    causes = sum_cause_costs(lake)
    assert {row["segment"] for row in causes} == set(RULES)
    assert sum(row["cpu_seconds"] for row in causes) == pytest.approx(on_line)


def test_workers_and_dbt_are_seen_where_they_worked(run) -> None:
    _, rows, used = run
    assert max(row["peak_memory_bytes"] for row in rows) == pytest.approx(used["peak_memory_bytes"], rel=0.05)
    for kind in ("dbt", "models"):
        mine = [row for row in rows if row["kind"] == kind]
        assert sum(row["cpu_seconds"] for row in mine) > 0.05 * used["cpu_seconds"]
        assert min(sum(row[name] for row in mine) for name in ("bytes_read", "bytes_written")) > 0


def test_no_large_library_is_left_for_a_run_to_import(folder: Path) -> None:
    late = set(json.loads((folder / "late_packages.json").read_text()))
    assert not late & {"agate", "alembic", "dagster_dbt", "duckdb", "jinja2", "networkx", "sklearn", "sqlalchemy", "sqlglot"}
