"""Descriptions, comments and properties leave a table readable by an independent Delta implementation."""

from typing import Any

import pyarrow as pa

from tests.dbt.conftest import Sandbox
from tests.readers.conftest import KernelReader


def test_a_table_with_words_and_properties(sandbox: Sandbox, kernel: KernelReader) -> None:
    words = {"description": "it's one", "columns": [{"name": "n", "description": "a number, é"}]}
    config: dict[str, Any] = {"persist_docs": {"relation": True, "columns": True}, "incremental_strategy": "append"}
    sandbox.write_source("events", pa.table({"n": [1, 2], "at": pa.array([0, 1], pa.timestamp("us"))}))
    sandbox.model("m", "select * from {{ source('bronze', 'events') }}", incremental_strategy="append")
    sandbox.run_well("build")
    config["table_properties"] = {"delta.appendOnly": True, "owner": "me"}
    sandbox.model("m", "select * from {{ source('bronze', 'events') }}", words, z_order="n", **config)
    sandbox.run_well("build")
    assert sandbox.table("marts/m").metadata().description == "it's one"
    assert kernel.assert_reads(str(sandbox.lake / "marts" / "m")).num_rows == 4
    said = kernel.read_words(str(sandbox.lake / "marts" / "m"))
    assert said["description"] == "it's one"
    assert said["comments"] == {"n": "a number, é", "at": None}
    expected = {"delta.appendOnly": "true", "owner": "me", "factory.zOrder": '["n"]'}
    assert {name: said["properties"].get(name) for name in expected} == expected
