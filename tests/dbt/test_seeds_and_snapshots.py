"""Seeds and snapshots are Delta tables like any model: staged, audited, published, with the same errors."""

import json

from tests.dbt.conftest import Sandbox

SNAPSHOT = """
{{% snapshot kept %}}
{{{{ config(target_schema='snapshots', unique_key='k', {config}) }}}}
select * from (values {rows}) as t (k, v)
{{% endsnapshot %}}
"""


def write_seed(sandbox: Sandbox, text: str, **config: object) -> None:
    (sandbox.project / "seeds").mkdir(exist_ok=True)
    (sandbox.project / "seeds" / "codes.csv").write_text(text)
    seeds = {"version": 2, "seeds": [{"name": "codes", "config": {"schema": "marts", **config}}]}
    (sandbox.project / "seeds" / "codes.yml").write_text(json.dumps(seeds))


def write_snapshot(sandbox: Sandbox, rows: str, config: str) -> None:
    (sandbox.project / "snapshots").mkdir(exist_ok=True)
    (sandbox.project / "snapshots" / "kept.sql").write_text(SNAPSHOT.format(rows=rows, config=config))


def test_a_seed_is_a_table_that_models_read(sandbox: Sandbox) -> None:
    write_seed(sandbox, "code,share,since\nit's,0.5,2013-01-01\n007,,\n", column_types={"code": "varchar"})
    sandbox.model("reads", "select code from {{ ref('codes') }} where share is null")
    sandbox.run_well("build")
    assert [str(field.type) for field in sandbox.table("marts/codes").schema().fields] == [
        'PrimitiveType("string")', 'PrimitiveType("double")', 'PrimitiveType("date")',
    ]  # fmt: skip
    assert sandbox.rows("marts/reads") == [("007",)]
    write_seed(sandbox, "code;share\na;1\n", delimiter=";")
    sandbox.run_well("build")
    assert sandbox.rows("marts/codes") == [("a", 1)]
    write_seed(sandbox, "at\n10:30:00\n")
    said = sandbox.run_badly("build", "--select", "codes")
    assert "column at is of type TIME" in said
    assert "cast it to varchar" in said
    assert sandbox.rows("marts/codes") == [("a", 1)]


def test_a_snapshot_ends_old_rows_and_begins_new_ones_in_one_version(sandbox: Sandbox) -> None:
    config = "strategy='check', check_cols=['v'], hard_deletes='invalidate'"
    write_snapshot(sandbox, "(1, 'a'), (2, 'b'), (3, 'c')", config)
    sandbox.run_well("build")
    write_snapshot(sandbox, "(1, 'a'), (2, 'B'), (4, 'd')", config)
    sandbox.run_well("build")
    table = sandbox.table("snapshots/kept")
    names = [field.name for field in table.schema().fields]
    rows = [dict(zip(names, row, strict=True)) for row in sandbox.rows("snapshots/kept")]
    found = sorted((row["k"], row["v"], row["dbt_valid_to"] is None) for row in rows)
    assert found == [(1, "a", True), (2, "B", True), (2, "b", False), (3, "c", False), (4, "d", True)]
    ended = next(row for row in rows if row["v"] == "b")
    begun = next(row for row in rows if row["v"] == "B")
    assert ended["dbt_valid_to"] == begun["dbt_valid_from"]
    assert table.version() == 1
    sandbox.run_well("build")
    assert sorted((row[0], row[1]) for row in sandbox.rows("snapshots/kept")) == sorted((row["k"], row["v"]) for row in rows)
