"""The command `factory impact`: exit codes and formats, over a project and a lake of its own."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from factory_assets.cli import app
from tests.dbt.conftest import make_sandbox

SQL = "select k, k + 1 as more from {{ source('bronze', 'events') }}"
UNIQUE = {"columns": [{"name": "k", "data_tests": ["unique"]}]}


def test_the_exit_code_says_whether_a_meaning_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = make_sandbox(tmp_path)
    sandbox.write_source("events", pa.table({"k": [1, 2]}))
    sandbox.model("m", SQL, UNIQUE)
    sandbox.run_well("build")
    product = tmp_path / "product"
    shutil.copytree(sandbox.project, product / "dbt_project")
    (product / "factory_assets" / "defs").mkdir(parents=True)
    (product / "factory_assets" / "defs" / "__init__.py").touch()
    (product / "factory_assets" / "__init__.py").touch()
    (product / "pyproject.toml").write_text(
        '[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "factory_assets"\n'
    )
    monkeypatch.setenv("FACTORY_PROJECT_DIR", str(product))
    monkeypatch.setenv("FACTORY_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("FACTORY_LAKE_URI", str(sandbox.lake))
    model = product / "dbt_project" / "models" / "m.sql"

    same = CliRunner().invoke(app, ["impact"])
    assert (same.exit_code, "No model changes its meaning." in same.stdout) == (0, True)

    model.write_text(model.read_text().replace("k + 1", "k + 2"))
    changed = CliRunner().invoke(app, ["impact", "--format", "json"])
    assert changed.exit_code == 3
    report = json.loads(changed.stdout)
    assert report["models"][0]["columns"] == {"more": "expression"}
    assert (report["diffs"][0]["changed"], report["diffs"][0]["samples"]) == (2, {"changed": ["1", "2"]})
    assert json.loads(CliRunner().invoke(app, ["impact", "--format", "json", "--no-data"]).stdout)["diffs"] == []

    nowhere = CliRunner().invoke(app, ["impact", "--against", "nowhere"])
    assert nowhere.exit_code == 1
    assert "cannot be read at 'nowhere'" in nowhere.stderr

    model.write_text("select * from {{ ref('nobody') }}")
    broken = CliRunner().invoke(app, ["impact"])
    assert (broken.exit_code, "nobody" in broken.stderr) == (1, True)
