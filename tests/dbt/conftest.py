"""A small dbt project around the factory's own macros and profile, for tests of the `delta` materialization."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
import yaml
from dbt.cli.main import dbtRunnerResult
from deltalake import DeltaTable, write_deltalake

from factory_assets.storage.delta.snapshots import open_table, select_sql
from tests.bronze_fixture import DBT_PROJECT, complaints, run_dbt


@dataclass
class Sandbox:
    """One dbt project and one lake; models are given as SQL, tables as Arrow."""

    project: Path
    lake: Path
    work: Path

    def write_source(self, name: str, rows: pa.Table, partition_by: list[str] | None = None) -> None:
        """Overwrite `bronze/<name>` as another program would."""
        write_deltalake(
            str(self.lake / "bronze" / name),
            rows,
            mode="overwrite",
            schema_mode="overwrite",
            partition_by=partition_by,
        )

    def model(self, name: str, sql: str, properties: Mapping[str, Any] | None = None, **config: Any) -> None:
        """Write one model of the schema `marts`."""
        settings = ", ".join(f"{key}={value!r}" for key, value in {"materialized": "delta", **config}.items())
        (self.project / "models" / f"{name}.sql").write_text(f"{{{{ config({settings}) }}}}\n{sql}")
        document = {"version": 2, "models": [{"name": name, **(properties or {})}]}
        (self.project / "models" / f"{name}.yml").write_text(yaml.safe_dump(document))

    def run(self, *arguments: str) -> dbtRunnerResult:
        """Run dbt; `dbt build` when no command is given."""
        return run_dbt(self.lake, self.work, arguments or ("build",), self.project)

    def run_well(self, *arguments: str) -> dbtRunnerResult:
        """Run dbt and expect every node to succeed."""
        result = self.run(*arguments)
        assert result.success, complaints(result)
        return result

    def run_badly(self, *arguments: str) -> str:
        """Run dbt, expect it to fail, and return what it said."""
        result = self.run(*arguments)
        assert not result.success
        return complaints(result)

    def table(self, name: str) -> DeltaTable:
        """Return the newest version of a table, which must exist."""
        table = open_table(str(self.lake / name))
        assert table is not None, f"no table {name}"
        return table

    def rows(self, name: str) -> list[tuple[object, ...]]:
        """Return a table's rows in order of all columns."""
        return duckdb.connect().sql(f"FROM ({select_sql(self.table(name))}) ORDER BY ALL").fetchall()


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    """An empty lake, and a dbt project without models."""
    return make_sandbox(tmp_path)


@pytest.fixture
def numbered(sandbox: Sandbox) -> Sandbox:
    """Four tables that each take in the run's number in their own way, and one that checks that they agree."""
    row = "select cast({{ var('number') }} as bigint) as n, 1 as k"
    sandbox.model("whole", row, {"columns": [{"name": "n", "data_tests": ["not_null", "unique"]}]})
    newer = "{% if is_incremental() %} where {{ var('number') }} not in (select n from {{ this }}) {% endif %}"
    sandbox.model(
        "appended", row + newer, {"columns": [{"name": "n", "data_tests": ["unique"]}]}, incremental_strategy="append"
    )
    sandbox.model("merged", row, incremental_strategy="merge", unique_key="k")
    sandbox.model("by_key", row, incremental_strategy="replace_partitions", partition_by="k")
    agree = (
        "select w.n from {{ ref('whole') }} as w join {{ ref('merged') }} as m using (n) join {{ ref('by_key') }} using (n)"
    )
    sandbox.model("together", agree, {"data_tests": [{"has_rows": {}}]})
    (sandbox.project / "tests" / "generic").mkdir(parents=True)
    check = "{% test has_rows(model) %} select 1 where (select count(*) from {{ model }}) <> 1 {% endtest %}"
    (sandbox.project / "tests" / "generic" / "has_rows.sql").write_text(check)
    return sandbox


def make_sandbox(folder: Path) -> Sandbox:
    """As the fixture `sandbox`, in a folder of one's own."""
    project = folder / "project"
    (project / "models").mkdir(parents=True)
    shutil.copytree(DBT_PROJECT / "macros", project / "macros")
    shutil.copy(DBT_PROJECT / "profiles.yml", project)
    settings = yaml.safe_load((DBT_PROJECT / "dbt_project.yml").read_text())
    settings["models"] = {"factory": {"+materialized": "delta", "+schema": "marts"}}
    (project / "dbt_project.yml").write_text(yaml.safe_dump(settings))
    sources = [{"name": "bronze", "tables": [{"name": "events"}, {"name": "other"}]}]
    (project / "models" / "sources.yml").write_text(yaml.safe_dump({"version": 2, "sources": sources}))
    return Sandbox(project, folder / "lake", folder / "work")
