"""A dbt build over a lake in an object store: staged, audited and published as on a local disk."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from factory_assets.storage.delta.lake import Lake, TableSpec
from factory_assets.storage.delta.table_place import TablePlace
from tests.bronze_fixture import DBT_PROJECT, complaints, run_dbt

SPEC = TableSpec("bronze/events", pa.schema([("k", pa.int64()), ("v", pa.string())]), keys=("k",))
MODELS: dict[str, dict[str, Any]] = {
    "whole": {},
    "merged": {"incremental_strategy": "merge", "unique_key": "k"},
    "by_value": {"incremental_strategy": "replace_partitions", "partition_by": "v"},
    "added": {"incremental_strategy": "append"},
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "models").mkdir(parents=True)
    shutil.copytree(DBT_PROJECT / "macros", folder / "macros")
    shutil.copy(DBT_PROJECT / "profiles.yml", folder)
    settings = yaml.safe_load((DBT_PROJECT / "dbt_project.yml").read_text())
    settings["models"] = {"factory": {"+materialized": "delta", "+schema": "marts"}}
    (folder / "dbt_project.yml").write_text(yaml.safe_dump(settings))
    document: dict[str, Any] = {"version": 2, "sources": [{"name": "bronze", "tables": [{"name": "events"}]}]}
    document["models"] = [{"name": name, "columns": [{"name": "k", "data_tests": [{"not_null": {}}]}]} for name in MODELS]
    (folder / "models" / "all.yml").write_text(yaml.safe_dump(document))
    for name, config in MODELS.items():
        given = ", ".join(f"{key}={value!r}" for key, value in config.items())
        sql = "{{ config(" + given + ") }}" if given else ""
        (folder / "models" / f"{name}.sql").write_text(f"{sql} select * from {{{{ source('bronze', 'events') }}}}")
    return folder


def _rows(lake: Lake, name: str) -> list[tuple[int | None, str]]:
    found = lake.query("select k, v from t order by all", t=lake.pin(name)).to_pylist()
    return [(row["k"], row["v"]) for row in found]


def test_a_file_is_created_once(root: str) -> None:
    place = TablePlace(f"{root}/marts/m")
    place.create_text("_delta_log/0.json", "mine")
    with pytest.raises(FileExistsError):
        place.create_text("_delta_log/0.json", "theirs")
    assert place.read_text("_delta_log/0.json") == "mine"


def test_every_strategy_publishes_and_a_failed_test_holds(root: str, project: Path, tmp_path: Path) -> None:
    lake = Lake(root)

    def build(*rows: tuple[int | None, str]) -> Any:
        keys, values = zip(*rows, strict=True)
        lake.replace(SPEC, pa.table({"k": pa.array(keys, pa.int64()), "v": pa.array(values, pa.string())}))
        return run_dbt(root, tmp_path / "work", ["build", "--threads", "4"], project)

    first = build((1, "a b/c"), (2, "x"))
    assert first.success, complaints(first)
    second = build((2, "x"), (3, "y"))
    assert second.success, complaints(second)
    expected = {
        "whole": [(2, "x"), (3, "y")],
        "merged": [(1, "a b/c"), (2, "x"), (3, "y")],
        "by_value": [(1, "a b/c"), (2, "x"), (3, "y")],
        "added": [(1, "a b/c"), (2, "x"), (2, "x"), (3, "y")],
    }
    assert {name: _rows(lake, f"marts/{name}") for name in MODELS} == expected
    third = build((None, "bad"))
    assert "marts/added failed: not_null_added_k; readers keep version 1" in complaints(third)
    assert {name: _rows(lake, f"marts/{name}") for name in MODELS} == expected
