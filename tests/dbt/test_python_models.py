"""Python models go the way of every other: staged, audited, published, with errors that say which column and which cast."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from factory_assets.storage.dbt.definitions import find_published
from factory_assets.storage.delta.lake import Lake
from tests.dbt.conftest import Sandbox


def write_model(sandbox: Sandbox, body: str, columns: list[dict[str, Any]] | None = None, **config: Any) -> None:
    given = ", ".join(f"{key}={value!r}" for key, value in {"materialized": "delta", **config}.items())
    lines = "\n".join(f"    {line}" for line in [f"dbt.config({given})", *body.split("\n")])
    (sandbox.project / "models" / "m.py").write_text(f"def model(dbt, session):\n{lines}\n")
    document = {"version": 2, "models": [{"name": "m", "columns": columns or []}]}
    (sandbox.project / "models" / "m.yml").write_text(yaml.safe_dump(document))


@pytest.mark.parametrize(
    "returned",
    [
        "dbt.ref('up').filter('k > 1')",
        "dbt.ref('up').df().query('k > 1')",
        "dbt.ref('up').to_arrow_table().slice(1)",
    ],
    ids=["relation", "pandas", "arrow"],
)
def test_a_python_model_is_staged_audited_and_published(returned: str, sandbox: Sandbox) -> None:
    sandbox.model("up", "select * from (values (1, 'a'), (2, 'b')) as t (k, v)")
    write_model(sandbox, f"return {returned}")
    sandbox.model("down", "select v from {{ ref('m') }}")
    sandbox.run_well("build")
    assert sandbox.rows("marts/m") == [(2, "b")]
    assert sandbox.rows("marts/down") == [("b",)]
    write_model(sandbox, "return session.sql('select null::integer as k')", [{"name": "k", "data_tests": ["not_null"]}])
    assert "not_null_m_k; readers keep version 0" in sandbox.run_badly("build", "--select", "m")
    assert sandbox.rows("marts/m") == [(2, "b")]


@pytest.mark.parametrize("materialized", ["delta", "incremental"])
def test_a_python_model_merges_and_its_meaning_is_kept_beside_the_rows(materialized: str, sandbox: Sandbox) -> None:
    body = "return session.sql(f\"select 1 as k, {'true' if dbt.is_incremental else 'false'} as is_incremental\")"
    config: dict[str, Any] = {"materialized": materialized, "incremental_strategy": "merge", "unique_key": "k"}
    write_model(sandbox, body, **config)
    lake = Lake(str(sandbox.lake))
    sandbox.run_well("build")
    assert sandbox.rows("marts/m") == [(1, False)]
    first, _ = find_published(lake, "marts.m")
    write_model(sandbox, f"# a remark\n{body}", **config)
    sandbox.run_well("build")
    assert sandbox.rows("marts/m") == [(1, True)]
    second, _ = find_published(lake, "marts.m")
    assert first is not None
    assert second is not None
    assert first.full == second.full
    assert second.incremental is not None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("import numpy, pandas\nreturn pandas.DataFrame({'u': numpy.array([1], 'uint64')})",
         "column u is of type UBIGINT, which Delta cannot hold: cast it to bigint"),
        ("import pandas\nreturn pandas.DataFrame({'d': [pandas.Timedelta('1h')]})",
         "column d is of type INTERVAL, which Delta cannot hold: cast it to a number of seconds"),
        ("return None", "model() returned nothing"),
        ("return 7", "model() returned int, which DuckDB cannot read"),
        ("raise ValueError('of my own')\nreturn None", "of my own"),
    ],
)  # fmt: skip
def test_what_a_python_model_may_not_return(body: str, message: str, sandbox: Sandbox) -> None:
    write_model(sandbox, body)
    assert message in sandbox.run_badly("build")
    assert not Path(sandbox.lake / "marts" / "m" / "_delta_log").exists()


def test_a_snapshot_refuses_a_type_by_column_and_cast(sandbox: Sandbox) -> None:
    (sandbox.project / "snapshots").mkdir()
    (sandbox.project / "snapshots" / "kept.sql").write_text(
        "{% snapshot kept %}{{ config(target_schema='snapshots', unique_key='k', strategy='check', check_cols=['v']) }}"
        "select 1 as k, interval 1 day as v{% endsnapshot %}"
    )
    said = sandbox.run_badly("build")
    assert "column v is of type INTERVAL, which Delta cannot hold: cast it to a number of seconds" in said
