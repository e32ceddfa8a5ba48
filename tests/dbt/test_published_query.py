"""With each table that dbt writes, the query that made it is kept."""

import pyarrow as pa

from factory_assets.storage.dbt.published_query import PublishedQuery, decode_record
from tests.dbt.conftest import Sandbox

INCREMENTAL = "select * from {{ source('bronze', 'events') }}{% if is_incremental() %} where k > 1{% endif %}"


def _newest_record(sandbox: Sandbox, table: str) -> PublishedQuery:
    record = decode_record(sandbox.table(table).history(1)[0])
    assert record is not None
    return record


def _words(sql: str | None) -> str:
    return " ".join((sql or "").split())


def test_an_incremental_run_keeps_its_own_query_and_that_of_a_full_refresh(sandbox: Sandbox) -> None:
    sandbox.write_source("events", pa.table({"k": [1, 2], "v": ["a", "b"]}))
    sandbox.model("m", INCREMENTAL, incremental_strategy="merge", unique_key="k")
    sandbox.run_well()
    first = _newest_record(sandbox, "marts/m")
    assert _words(first.full) == 'select * from "memory"."bronze"."events"'
    assert first.incremental is None
    sandbox.run_well()
    second = _newest_record(sandbox, "marts/m")
    assert second.full.strip() == first.full.strip()
    assert _words(second.incremental) == 'select * from "memory"."bronze"."events" where k > 1'
    assert second.settings == {"incremental_strategy": "merge", "unique_key": "k"}


def test_an_ephemeral_model_is_part_of_the_query_of_a_full_refresh(sandbox: Sandbox) -> None:
    sandbox.write_source("events", pa.table({"k": [1, 2], "v": ["a", "b"]}))
    sandbox.model("e", "select * from {{ source('bronze', 'events') }} where v <> 'z'", materialized="ephemeral")
    body = "select * from {{ ref('e') }}{% if is_incremental() %} where k > 1{% endif %}"
    sandbox.model("m", body, incremental_strategy="merge", unique_key="k")
    sandbox.run_well()
    sandbox.run_well()
    record = _newest_record(sandbox, "marts/m")
    assert "v <> 'z'" in record.full
    assert "k > 1" not in record.full


def test_the_contract_is_kept_with_types_and_constraints(sandbox: Sandbox) -> None:
    sandbox.write_source("events", pa.table({"k": [1, 2], "v": ["a", "b"]}))
    columns = [
        {
            "name": "k",
            "data_type": "BIGINT",
            "constraints": [{"type": "not_null"}, {"type": "check", "expression": "k > 0"}],
        },
        {"name": "v", "data_type": "varchar"},
    ]
    properties = {"config": {"contract": {"enforced": True}}, "columns": columns}
    sandbox.model("m", "select * from {{ source('bronze', 'events') }}", properties)
    sandbox.run_well()
    assert _newest_record(sandbox, "marts/m").columns == {"k": "bigint, not_null, check k > 0", "v": "varchar"}
