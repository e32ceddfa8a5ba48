"""Each write mode against the same operation in plain DuckDB, over open input, and what becomes of changed columns."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from factory_assets.storage.dbt.model_write import ModelWrite
from factory_assets.storage.dbt.table_write import stage_model
from factory_assets.storage.delta.log import write_commit
from factory_assets.storage.delta.snapshots import select_files_sql, select_sql
from factory_assets.storage.delta.table_place import TablePlace
from factory_assets.storage.delta.table_stage import open_stage
from tests.dbt.conftest import Sandbox

ODD = ["it's", "a' OR v <> '", "a/b", "%20", "é", "..", "x=1", "日本", "NULL", "a b", "{}", "*", "?", "[x]", None]
TEXT = st.one_of(
    st.sampled_from(ODD), st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6)
)
ROWS = st.lists(st.tuples(st.one_of(st.none(), st.integers(-3, 3)), TEXT, st.one_of(st.none(), st.floats())), max_size=8)
MODES = ["overwrite", "append", "merge", "delete+insert", "replace_partitions"]
Row = tuple[int | None, str | None, float | None]


def _table(rows: Sequence[Row]) -> pa.Table:
    keys, texts, numbers = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        {"k": pa.array(keys, pa.int64()), "p": pa.array(texts, pa.string()), "x": pa.array(numbers, pa.float64())}
    )


def _write(strategy: str, unique_key: tuple[str, ...], partition_by: tuple[str, ...], **more: Any) -> ModelWrite:
    return ModelWrite(
        node="model.t.m",
        schema="marts",
        name="m",
        sql="select * from new_rows",
        strategy=strategy,
        is_incremental=strategy != "overwrite",
        unique_key=unique_key,
        partition_by=partition_by,
        not_null=(),
        checks=(),
        **more,
    )


def _expected(mode: str, before: Sequence[Row], after: Sequence[Row], keys: tuple[str, ...]) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        connection.register("before_rows", _table(before))
        connection.register("after_rows", _table(after))
        connection.execute("create table t as from before_rows")
        if mode == "overwrite":
            connection.execute("delete from t")
        elif mode in ("merge", "delete+insert", "replace_partitions"):
            same = " and ".join(f"s.{key} is not distinct from t.{key}" for key in keys)
            connection.execute(f"delete from t where exists (from after_rows as s where {same})")
        connection.execute("insert into t from after_rows")
        return connection.execute("select k, p, x::varchar from t order by all").fetchall()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mode=st.sampled_from(MODES),
    batches=st.lists(ROWS, min_size=2, max_size=3),
    keys=st.sampled_from([("k",), ("k", "p"), ("p", "k")]),
    is_partitioned=st.booleans(),
)
@example(
    mode="replace_partitions",
    batches=[[(None, "\U00020000", None)], [(None, "\U00010000", None)]],
    keys=("k",),
    is_partitioned=False,
)
def test_each_mode_does_what_plain_duckdb_does(
    mode: str, batches: list[list[Row]], keys: tuple[str, ...], is_partitioned: bool, tmp_path: Path
) -> None:
    place = TablePlace(str(tmp_path / uuid4().hex / "marts" / "m"))
    partition_by = ("p",) if is_partitioned or mode == "replace_partitions" else ()
    unique_key = keys if mode in ("merge", "delete+insert") else ()
    if mode == "merge":
        positions = [("k", "p", "x").index(key) for key in keys]
        batches = [list({tuple(row[i] for i in positions): row for row in rows}.values()) for rows in batches]
    expected: list[Row] = []
    for number, rows in enumerate(batches):
        current = DeltaTable(place.uri) if number else None
        with duckdb.connect() as connection:
            connection.register("new_rows", _table(rows))
            write = _write(mode, unique_key, partition_by)
            stage = stage_model(connection, write, open_stage("model.t.m", uuid4().hex, place, current, {}), current)
            audited = connection.execute(
                f"select k, p, x::varchar from ({select_files_sql(stage.state.file_set())}) order by all"
            ).fetchall()
            if stage.adds or stage.removed or stage.table_actions:
                write_commit(place, stage.base_version + 1, stage.commit(datetime.now(UTC)))
            published = connection.execute(
                f"select k, p, x::varchar from ({select_sql(DeltaTable(place.uri))}) order by all"
            ).fetchall()
        wanted = _expected(mode, expected, rows, partition_by if mode == "replace_partitions" else keys)
        assert audited == published == wanted
        expected = [(k, p, None if x is None else float(x)) for k, p, x in published]
        theirs = DeltaTable(place.uri).to_pyarrow_table()
        with duckdb.connect() as connection:
            connection.register("theirs", theirs)
            assert connection.execute("select k, p, x::varchar from theirs order by all").fetchall() == wanted


DAYS = "select k, timestamptz '2020-01-01 00:00:00+00' + interval (k) hour as at, '{v}' as v from range({n}) as t (k)"


def _batched(sandbox: Sandbox, value: str, hours: int, **config: Any) -> None:
    sandbox.model(
        "m",
        DAYS.format(v=value, n=hours),
        materialized="incremental",
        incremental_strategy="microbatch",
        event_time="at",
        batch_size="day",
        begin="2020-01-01",
        **config,
    )


@pytest.mark.parametrize("threads", ["1", "4"])
def test_microbatch_replaces_the_spans_of_its_batches(threads: str, sandbox: Sandbox) -> None:
    span = ["--event-time-start", "2020-01-01", "--event-time-end", "2020-01-04", "--threads", threads]
    _batched(sandbox, "first", 72)
    sandbox.run_well("build", *span)
    assert len(sandbox.rows("marts/m")) == 72
    assert sandbox.table("marts/m").version() == 0
    _batched(sandbox, "second", 72)
    sandbox.run_well("build", "--event-time-start", "2020-01-02", "--event-time-end", "2020-01-03", "--threads", threads)
    values = [row[2] for row in sandbox.rows("marts/m")]
    assert values == ["first"] * 24 + ["second"] * 24 + ["first"] * 24
    assert sandbox.table("marts/m").version() == 1
    sandbox.run_well("build", *span, "--full-refresh")
    assert [row[2] for row in sandbox.rows("marts/m")] == ["second"] * 72


def test_a_model_that_dbt_calls_incremental_is_a_delta_table_too(sandbox: Sandbox) -> None:
    sandbox.write_source("events", pa.table({"k": [1], "v": ["a"]}))
    sandbox.model("m", "select * from {{ source('bronze', 'events') }}", materialized="incremental")
    sandbox.run_well()
    sandbox.run_well()
    assert sandbox.rows("marts/m") == [(1, "a"), (1, "a")]


CHANGES = [
    ("ignore", "select 2 as k, 'b' as v, true as w", [(1, "a"), (2, "b")], ["k", "v"]),
    ("append_new_columns", "select 2 as k, 'b' as v, true as w", [(1, "a", None), (2, "b", True)], ["k", "v", "w"]),
    ("append_new_columns", "select true as w, 2 as k", [(1, "a", None), (2, None, True)], ["k", "v", "w"]),
    ("sync_all_columns", "select 2 as k, 'b' as v, true as w", [(1, "a", None), (2, "b", True)], ["k", "v", "w"]),
    ("sync_all_columns", "select 2 as k, true as w", [(1, None), (2, True)], ["k", "w"]),
    ("sync_all_columns", "select 2.5::double as k, 'b' as v", [(1.0, "a"), (2.5, "b")], ["k", "v"]),
    ("sync_all_columns", "select 2 as k, 'b' as v, timestamp '2020-01-01' as w", None, ["k", "v", "w"]),
]
INCREMENTAL: list[dict[str, Any]] = [
    {"incremental_strategy": "append"},
    {"incremental_strategy": "merge", "unique_key": "k"},
    {"incremental_strategy": "delete+insert", "unique_key": "k"},
    {"incremental_strategy": "replace_partitions", "partition_by": "k"},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: f"{change[0]}: {change[1]}")
def test_changed_columns_come_in_as_on_schema_change_says(change: Any, sandbox: Sandbox) -> None:
    policy, sql, expected, columns = change
    for number, config in enumerate(INCREMENTAL):
        sandbox.model(f"m{number}", "select 1 as k, 'a' as v", on_schema_change=policy, **config)
    sandbox.run_well()
    for number, config in enumerate(INCREMENTAL):
        sandbox.model(f"m{number}", sql, on_schema_change=policy, **config)
    sandbox.run_well()
    for number in range(len(INCREMENTAL)):
        table = sandbox.table(f"marts/m{number}")
        assert [field.name for field in table.schema().fields] == columns
        assert expected is None or sandbox.rows(f"marts/m{number}") == expected
        assert table.to_pyarrow_table().num_rows == 2
        assert table.version() == 1


@pytest.mark.parametrize(
    ("policy", "sql", "complaint"),
    [
        ("fail", "select 2 as k, 'b' as v, 1 as w", "w: absent -> INTEGER"),
        ("ignore", "select 2 as k", "v: VARCHAR -> absent"),
        ("ignore", "select 'x' as k, 'b' as v", "k: INTEGER -> VARCHAR"),
        ("append_new_columns", "select 'x' as k, 'b' as v", "changes no types"),
        ("sync_all_columns", "select 2 as k, 7 as v", "Could not convert string 'a' to INT32"),
    ],
)
def test_changes_that_a_policy_cannot_make_are_refused(policy: str, sql: str, complaint: str, sandbox: Sandbox) -> None:
    config: dict[str, Any] = {"incremental_strategy": "append", "on_schema_change": policy}
    sandbox.model("m", "select 1 as k, 'a' as v", **config)
    sandbox.run_well()
    sandbox.model("m", sql, **config)
    assert complaint in sandbox.run_badly()
    assert sandbox.rows("marts/m") == [(1, "a")]


def test_a_column_that_went_does_not_come_back_with_old_values(sandbox: Sandbox) -> None:
    config: dict[str, Any] = {"incremental_strategy": "append", "on_schema_change": "sync_all_columns"}
    for sql in ("select 1 as k, 'a' as v", "select 2 as k", "select 3 as k, 'c' as v"):
        sandbox.model("m", sql, **config)
        sandbox.run_well()
    assert sandbox.rows("marts/m") == [(1, None), (2, None), (3, "c")]


def test_another_partitioning_needs_a_full_refresh(sandbox: Sandbox) -> None:
    sandbox.model("m", "select 1 as k, 'a' as v", incremental_strategy="append", partition_by="v")
    sandbox.run_well()
    sandbox.model("m", "select 1 as k, 'a' as v", incremental_strategy="append", partition_by="k")
    assert "partition_by is (k), and the table is partitioned by (v)" in sandbox.run_badly()
    sandbox.run_well("build", "--full-refresh")
    assert sandbox.table("marts/m").metadata().partition_columns == ["k"]
    assert sandbox.rows("marts/m") == [(1, "a")]
