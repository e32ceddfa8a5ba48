"""What a table says beside its rows: descriptions, comments and properties, published with them."""

import json
from typing import Any

import pytest
from deltalake import DeltaTable

from factory_assets.contracts.maintenance import MaintenanceSpec
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.delta.maintenance import maintain_table
from tests.dbt.conftest import Sandbox
from tests.dbt.test_seeds_and_snapshots import write_seed, write_snapshot

WORDS = 'it\'s "one"\nof two, é 日本'
DOCS = {"relation": True, "columns": True}


def properties(description: str, **columns: str) -> dict[str, Any]:
    return {
        "description": description,
        "columns": [{"name": name, "description": text} for name, text in columns.items()],
    }


def comments(table: DeltaTable) -> dict[str, Any]:
    return {column.name: column.metadata.get("comment") for column in table.schema().fields}


def test_descriptions_and_comments_are_published_with_the_rows(sandbox: Sandbox) -> None:
    sandbox.model("m", "select 1 as k, 'a' as V", properties(WORDS, k=WORDS, v="the value"), persist_docs=DOCS)
    sandbox.model("silent", "select 1 as k", properties(WORDS, k=WORDS))
    write_seed(sandbox, "code\n1\n", persist_docs=DOCS)
    seed = {"name": "codes", "config": {"schema": "marts", "persist_docs": DOCS}, **properties("codes", code="one code")}
    (sandbox.project / "seeds" / "codes.yml").write_text(json.dumps({"version": 2, "seeds": [seed]}))
    config = "strategy='check', check_cols=['v'], persist_docs={'relation': true, 'columns': true}"
    write_snapshot(sandbox, "(1, 'a')", config)
    document = {"version": 2, "snapshots": [{"name": "kept", **properties("history", v="what it was")}]}
    (sandbox.project / "snapshots" / "kept.yml").write_text(json.dumps(document))
    sandbox.run_well("build")
    assert sandbox.table("marts/m").metadata().description == WORDS
    assert comments(sandbox.table("marts/m")) == {"k": WORDS, "V": "the value"}
    assert sandbox.table("marts/silent").metadata().description is None
    assert comments(sandbox.table("marts/silent")) == {"k": None}
    assert (sandbox.table("marts/codes").metadata().description, comments(sandbox.table("marts/codes"))) == (
        "codes", {"code": "one code"},
    )  # fmt: skip
    assert sandbox.table("snapshots/kept").metadata().description == "history"
    assert comments(sandbox.table("snapshots/kept"))["v"] == "what it was"


def test_words_change_alone_are_held_with_the_rows_and_stay_when_columns_come(sandbox: Sandbox) -> None:
    config: dict[str, Any] = {"persist_docs": DOCS, "incremental_strategy": "merge", "unique_key": "k"}
    config["on_schema_change"] = "append_new_columns"
    sandbox.model("m", "select 1 as k", properties("before", k="key"), **config)
    sandbox.run_well("build")
    files = sandbox.table("marts/m").file_uris()
    sandbox.model("m", "select 1 as k where false", properties("after", k="the key"), **config)
    sandbox.run_well("build")
    table = sandbox.table("marts/m")
    assert (table.version(), table.metadata().description, comments(table)) == (1, "after", {"k": "the key"})
    assert table.file_uris() == files
    sandbox.run_well("build")
    assert sandbox.table("marts/m").version() == 1
    held = properties("never seen", k="never seen")
    held["columns"][0]["data_tests"] = [{"accepted_values": {"arguments": {"values": [9]}}}]
    sandbox.model("m", "select 2 as k", held, **config)
    assert "readers keep version 1" in sandbox.run_badly("build")
    assert sandbox.table("marts/m").metadata().description == "after"
    sandbox.model("m", "select 2 as k, 'x' as v", **{**config, "persist_docs": {}})
    sandbox.run_well("build")
    table = sandbox.table("marts/m")
    assert (table.metadata().description, comments(table)) == ("after", {"k": "the key", "v": None})
    assert sandbox.rows("marts/m") == [(1, None), (2, "x")]


@pytest.mark.parametrize("column", ["1 as k", "timestamp '2020-01-01' as k"])
def test_a_table_may_be_for_adding_only(column: str, sandbox: Sandbox) -> None:
    given = {"delta.appendOnly": True, "owner": "it's me"}
    sandbox.model("m", f"select {column}", incremental_strategy="append")
    sandbox.run_well("build")
    sandbox.model("m", f"select {column}", incremental_strategy="append", table_properties=given)
    sandbox.run_well("build")
    sandbox.run_well("build")
    table = sandbox.table("marts/m")
    configuration = table.metadata().configuration
    assert (configuration["delta.appendOnly"], configuration["owner"], table.version()) == ("true", "it's me", 2)
    listed = table.protocol().writer_features
    assert listed is None or "appendOnly" in listed
    assert "variantType" not in (table.protocol().reader_features or ())
    said = sandbox.run_badly("build", "--full-refresh")
    assert "may only be added to (delta.appendOnly)" in said
    assert "delta.appendOnly: 'false'" in said
    assert len(sandbox.rows("marts/m")) == 3
    sandbox.model("m", f"select {column}", table_properties={"delta.appendOnly": "false"})
    sandbox.run_well("build")
    assert len(sandbox.rows("marts/m")) == 1


def test_layout_is_kept_when_rows_are_written_and_when_the_table_is_cared_for(sandbox: Sandbox) -> None:
    rows = "select hash(i)::varchar as a, hash(i + 1)::varchar as b from range(400000) as t (i)"
    sandbox.model("one", rows)
    few = {"delta.dataSkippingNumIndexedCols": 1}
    sandbox.model("several", rows, target_file_size_mb=1, z_order=["b"], table_properties=few)
    sandbox.run_well("build")
    assert len(sandbox.table("marts/one").file_uris()) == 1
    table = sandbox.table("marts/several")
    assert len(table.file_uris()) > 3
    assert "null_count.b" not in table.get_add_actions(flatten=True).schema.names
    lake = Lake(str(sandbox.lake))
    assert maintain_table(lake, "marts/several", MaintenanceSpec(compact_from=2), frozenset()).problem is None
    cared = sandbox.table("marts/several")
    assert len(cared.file_uris()) > 3
    assert "'zOrder'" in str(cared.history(1)[0])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"table_properties": {"delta.enableChangeDataFeed": True}}, "delta.enableChangeDataFeed has no effect"),
        ({"table_properties": {"delta.appendOnly": "yes"}}, "delta.appendOnly is 'yes': expected true or false"),
        ({"table_properties": {"delta.targetFileSize": "1 MB"}}, "delta.targetFileSize is '1 MB': expected a whole number"),
        ({"target_file_size_mb": 0}, "target_file_size_mb is 0: expected a whole number"),
        ({"z_order": "nope"}, "z_order names nope: expected columns out of k"),
    ],
)
def test_settings_without_effect_are_refused(config: dict[str, Any], message: str, sandbox: Sandbox) -> None:
    sandbox.model("m", "select 1 as k", **config)
    assert message in sandbox.run_badly("build")
