"""Tables whose data files alone do not say what their rows are: refused by name, and no other model is stopped by them."""

import json
import struct
from typing import Any

import pyarrow as pa
import pytest

from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.delta.snapshots import UnreadableTableError
from tests.dbt.conftest import Sandbox

Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def deleted_row(position: int) -> dict[str, Any]:
    """The descriptor of a deletion vector that is kept in the log itself and takes out one row."""
    bitmap = struct.pack("<IIHHIH", 12346, 1, 0, 0, 16, position)
    data = struct.pack("<IQI", 1681511377, 1, 0) + bitmap
    text = ""
    for (word,) in struct.iter_unpack(">I", data + b"\0" * (-len(data) % 4)):
        text += "".join(Z85[word // 85**power % 85] for power in (4, 3, 2, 1, 0))
    return {"storageType": "i", "pathOrInlineDv": text, "sizeInBytes": len(data), "cardinality": 1}


def make_foreign(sandbox: Sandbox, feature: str) -> None:
    """Rewrites the first commit of `bronze/other` as a writer with this feature would have written it."""
    sandbox.write_source("other", pa.table({"k": [1, 2, 3]}))
    log = sandbox.lake / "bronze" / "other" / "_delta_log" / f"{0:020}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        if "protocol" in action:
            listed = {"readerFeatures": [feature], "writerFeatures": [feature]}
            action["protocol"] = {"minReaderVersion": 3, "minWriterVersion": 7, **listed}
        elif "add" in action and feature == "deletionVectors":
            action["add"]["deletionVector"] = deleted_row(1)
        elif "metaData" in action and feature == "columnMapping":
            schema = json.loads(action["metaData"]["schemaString"])
            mapping = {"delta.columnMapping.id": 1, "delta.columnMapping.physicalName": "k"}
            schema["fields"][0].update(name="renamed", metadata=mapping)
            action["metaData"]["schemaString"] = json.dumps(schema)
            action["metaData"]["configuration"] = {
                "delta.columnMapping.mode": "name",
                "delta.columnMapping.maxColumnId": "1",
            }
    log.write_text("\n".join(map(json.dumps, actions)) + "\n")


@pytest.mark.parametrize("feature", ["deletionVectors", "columnMapping"])
def test_a_table_that_cannot_be_read_right_stops_only_who_reads_it(feature: str, sandbox: Sandbox) -> None:
    make_foreign(sandbox, feature)
    sandbox.write_source("events", pa.table({"k": [1]}))
    sandbox.model("well", "select * from {{ source('bronze', 'events') }}")
    sandbox.model("wrong", "select * from {{ source('bronze', 'other') }}")
    said = sandbox.run_badly("build")
    assert f"bronze/other/ uses the Delta feature '{feature}'" in said
    assert "well:" not in said
    assert sandbox.rows("marts/well") == [(1,)]
    assert not (sandbox.lake / "marts" / "wrong" / "_delta_log").exists()
    with pytest.raises(UnreadableTableError, match=feature):
        _ = Lake(str(sandbox.lake)).pin("bronze/other").sql
