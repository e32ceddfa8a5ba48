"""What the `delta` materialization does to tables, against the same operation in plain DuckDB, through real dbt runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from dbt.adapters.duckdb.utils import TargetConfig
from deltalake import DeltaTable, write_deltalake

from factory_assets.storage.dbt import plugin as dbt_plugin
from tests.dbt.conftest import Sandbox

EVENTS = "select * from {{ source('bronze', 'events') }}"
CONTRACT = {
    "config": {"contract": {"enforced": True}},
    "columns": [
        {"name": "k", "data_type": "bigint", "constraints": [{"type": "not_null"}]},
        {"name": "v", "data_type": "varchar", "constraints": [{"type": "check", "expression": "v <> 'bad'"}]},
    ],
}


def _events(*rows: tuple[object, ...]) -> pa.Table:
    keys, values = zip(*rows, strict=True) if rows else ((), ())
    return pa.table({"k": pa.array(keys, pa.int64()), "v": pa.array(values, pa.string())})


def test_a_model_is_a_delta_table_that_models_downstream_and_later_runs_read(sandbox: Sandbox) -> None:
    sandbox.write_source("events", _events((1, "a"), (2, "b")))
    sandbox.model("first", EVENTS)
    sandbox.model("second", "select count(*) as n from {{ ref('first') }}")
    sandbox.run_well()
    assert sandbox.rows("marts/first") == [(1, "a"), (2, "b")]
    assert sandbox.rows("marts/second") == [(2,)]
    sandbox.write_source("events", _events((3, "c")))
    sandbox.run_well("build", "--select", "second")
    assert sandbox.rows("marts/second") == [(2,)]


def test_without_a_strategy_the_whole_table_is_replaced_columns_and_all(sandbox: Sandbox) -> None:
    sandbox.write_source("events", _events((1, "a"), (2, "b")))
    sandbox.model("m", EVENTS)
    sandbox.run_well()
    sandbox.model("m", "select k * 10 as k, v || '!' as w, 1.5::double as extra from {{ source('bronze', 'events') }}")
    sandbox.write_source("events", _events((3, "c")))
    sandbox.run_well()
    assert sandbox.rows("marts/m") == [(30, "c!", 1.5)]
    assert [field.name for field in sandbox.table("marts/m").schema().fields] == ["k", "w", "extra"]
    assert sandbox.table("marts/m").version() == 1


def test_a_model_without_rows_is_an_empty_table_with_types(sandbox: Sandbox) -> None:
    sandbox.model("m", "select 1::bigint as k, 'x' as v where false")
    sandbox.run_well()
    assert sandbox.rows("marts/m") == []
    assert [str(field.type) for field in sandbox.table("marts/m").schema().fields] == [
        'PrimitiveType("long")',
        'PrimitiveType("string")',
    ]


def test_merge_updates_equal_keys_with_nulls_equal_and_inserts_the_others(sandbox: Sandbox) -> None:
    before = [(key, f"old {key}") for key in range(100)] + [(None, "old null")]
    after = [(key, f"new {key}") for key in range(50, 150)] + [(None, "new null")]
    sandbox.model("m", EVENTS, incremental_strategy="merge", unique_key="k")
    sandbox.write_source("events", _events(*before))
    sandbox.run_well()
    sandbox.write_source("events", _events(*after))
    sandbox.run_well()
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t (k BIGINT, v VARCHAR)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", before)
        connection.execute("CREATE TABLE s (k BIGINT, v VARCHAR)")
        connection.executemany("INSERT INTO s VALUES (?, ?)", after)
        connection.execute("DELETE FROM t WHERE EXISTS (FROM s WHERE s.k IS NOT DISTINCT FROM t.k)")
        connection.execute("INSERT INTO t FROM s")
        assert sandbox.rows("marts/m") == connection.execute("FROM t ORDER BY ALL").fetchall()


def test_merge_over_several_keys_of_several_types(sandbox: Sandbox) -> None:
    sandbox.model(
        "m",
        """
        select a::timestamptz as a, b, c::date as c, v
        from (values ('2013-01-01 05:00:00+00', 'x', '2013-01-01', {{ var('v') }}),
                     ('2013-01-01 05:00:00+00', null, '2013-01-01', {{ var('v') }}),
                     ({{ var('third') }}, 'x', null, {{ var('v') }})) as t (a, b, c, v)
        """,
        incremental_strategy="merge",
        unique_key=["a", "b", "c"],
    )
    sandbox.run_well("build", "--vars", json.dumps({"v": 1, "third": "null"}))
    sandbox.run_well("build", "--vars", json.dumps({"v": 2, "third": "'2014-01-01 05:00:00+00'"}))
    assert sorted(str(row[3]) for row in sandbox.rows("marts/m")) == ["1", "2", "2", "2"]


def test_repeated_keys_are_refused_before_anything_is_merged(sandbox: Sandbox) -> None:
    sandbox.model("m", EVENTS, incremental_strategy="merge", unique_key="k")
    sandbox.write_source("events", _events((1, "a")))
    sandbox.run_well()
    sandbox.write_source("events", _events((7, "x"), (7, "y")))
    assert "unique_key (k) = (7,) more than once" in sandbox.run_badly()
    assert sandbox.rows("marts/m") == [(1, "a")]


def test_replace_partitions_replaces_what_the_new_rows_touch_and_nothing_else(sandbox: Sandbox) -> None:
    odd = ["it's", "a' OR v <> '", "a/b", "%20", "é", "..", "x=1", None]
    sandbox.model("m", EVENTS, incremental_strategy="replace_partitions", partition_by="v")
    sandbox.write_source("events", _events(*((n, v) for n, v in enumerate(odd)), (100, "untouched")))
    sandbox.run_well()
    for number, value in enumerate(odd):
        untouched = [row for row in sandbox.rows("marts/m") if row[1] != value]
        sandbox.write_source("events", _events((1000 + number, value), (2000 + number, value)))
        sandbox.run_well()
        replaced = [(1000 + number, value), (2000 + number, value)]
        assert sorted(sandbox.rows("marts/m"), key=str) == sorted([*untouched, *replaced], key=str)


def test_replace_partitions_of_two_columns_replaces_pairs_not_products(sandbox: Sandbox) -> None:
    sandbox.model(
        "m",
        "select k % 2 as a, v as b, k from {{ source('bronze', 'events') }}",
        incremental_strategy="replace_partitions",
        partition_by=["a", "b"],
    )
    sandbox.write_source("events", _events((0, "x"), (1, "x"), (2, "y"), (3, "y")))
    sandbox.run_well()
    sandbox.write_source("events", _events((10, "x"), (11, "y")))
    sandbox.run_well()
    assert sandbox.rows("marts/m") == [(0, "x", 10), (0, "y", 2), (1, "x", 1), (1, "y", 11)]


@pytest.mark.parametrize(
    "config",
    [
        {"incremental_strategy": "merge", "unique_key": "k"},
        {"incremental_strategy": "replace_partitions", "partition_by": "v"},
    ],
)
def test_an_incremental_run_without_new_rows_writes_no_version(config: dict[str, Any], sandbox: Sandbox) -> None:
    sandbox.model("m", EVENTS + "{% if is_incremental() %} where false {% endif %}", **config)
    sandbox.write_source("events", _events((1, "a")))
    sandbox.run_well()
    sandbox.run_well()
    assert sandbox.table("marts/m").version() == 0
    assert sandbox.rows("marts/m") == [(1, "a")]


def test_full_refresh_rebuilds_an_incremental_model(sandbox: Sandbox) -> None:
    sandbox.model("m", EVENTS, incremental_strategy="merge", unique_key="k")
    sandbox.write_source("events", _events((1, "a")))
    sandbox.run_well()
    sandbox.write_source("events", _events((2, "b")))
    sandbox.run_well("build", "--full-refresh")
    assert sandbox.rows("marts/m") == [(2, "b")]


def test_an_incremental_model_reads_its_own_table(sandbox: Sandbox) -> None:
    newer = "{% if is_incremental() %} where k > (select max(k) from {{ this }}) {% endif %}"
    sandbox.model("m", EVENTS + newer, incremental_strategy="merge", unique_key="k")
    sandbox.write_source("events", _events((1, "a"), (2, "b")))
    sandbox.run_well()
    sandbox.write_source("events", _events((2, "changed"), (3, "c")))
    sandbox.run_well()
    assert sandbox.rows("marts/m") == [(1, "a"), (2, "b"), (3, "c")]


def test_changed_columns_stop_an_incremental_run_until_a_full_refresh(sandbox: Sandbox) -> None:
    sandbox.model("m", EVENTS, incremental_strategy="merge", unique_key="k")
    sandbox.write_source("events", _events((1, "a")))
    sandbox.run_well()
    changed = "select k, 1 as v, 2 as w from {{ source('bronze', 'events') }}"
    sandbox.model("m", changed, incremental_strategy="merge", unique_key="k")
    said = sandbox.run_badly()
    assert "v: VARCHAR -> INTEGER" in said
    assert "w: absent -> INTEGER" in said
    assert "--full-refresh" in said
    sandbox.run_well("build", "--full-refresh")
    assert sandbox.rows("marts/m") == [(1, 1, 2)]


def test_columns_in_another_order_are_the_same_columns(sandbox: Sandbox) -> None:
    sandbox.model("m", EVENTS, incremental_strategy="merge", unique_key="k")
    sandbox.write_source("events", _events((1, "a")))
    sandbox.run_well()
    swapped = "select v, k from {{ source('bronze', 'events') }}"
    sandbox.model("m", swapped, incremental_strategy="merge", unique_key="k")
    sandbox.write_source("events", _events((1, "b")))
    sandbox.run_well()
    assert sandbox.rows("marts/m") == [(1, "b")]


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"incremental_strategy": "insert_overwrite"}, "expected one of overwrite, append, merge, delete+insert"),
        ({"incremental_strategy": "merge"}, "unique_key go together"),
        ({"incremental_strategy": "delete+insert"}, "unique_key go together"),
        ({"incremental_strategy": "append", "unique_key": "k"}, "unique_key go together"),
        ({"incremental_strategy": "microbatch"}, "needs event_time, begin and batch_size"),
        ({"incremental_strategy": "append", "on_schema_change": "guess"}, "on_schema_change 'guess' is not known"),
        ({"incremental_strategy": "append", "incremental_predicates": ["k > 1"]}, "incremental_predicates has no effect"),
        ({"unique_key": "k"}, "unique_key go together"),
        ({"incremental_strategy": "replace_partitions"}, "needs partition_by"),
    ],
)
def test_settings_that_could_have_no_effect_are_refused(config: dict[str, Any], complaint: str, sandbox: Sandbox) -> None:
    sandbox.model("m", "select 1 as k", **config)
    assert complaint in sandbox.run_badly()
    assert not (sandbox.lake / "marts" / "m").exists()


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("interval '1 day'", "column x is of type INTERVAL, which Delta cannot hold: cast it to a number of seconds"),
        ("time '10:00'", "column x is of type TIME"),
        ("sum(n)", "column x is of type HUGEINT, which Delta cannot hold: cast it to bigint"),
        ("null", "give the null a type"),
        ("1::ubigint", "Delta has no unsigned integers"),
        ("uuid()", "cast it to varchar"),
        ("'{}'::json", "cast it to varchar"),
        ("['a']::enum('a')[]", "which Delta cannot hold"),
        ("{'deep': [sum(n)]}", "cast it to bigint"),
    ],
)
def test_types_that_delta_cannot_hold_are_named_with_a_remedy(expression: str, complaint: str, sandbox: Sandbox) -> None:
    sandbox.model("m", f"select {expression} as x from (select 1::bigint as n) as t group by all")
    assert complaint in sandbox.run_badly()


def test_nested_exact_and_zoned_types_survive(sandbox: Sandbox) -> None:
    sandbox.model(
        "m",
        "select [1, 2] as a, {'x': 'y'} as b, map {'k': 1.5::double} as c, 1.25::decimal(9, 2) as d, "
        "timestamptz '2013-01-01 05:00:00+00' as e, timestamp '2013-01-01 05:00:00' as f, 'x'::blob as g",
    )
    sandbox.run_well()
    (row,) = sandbox.rows("marts/m")
    assert [str(value) for value in row[:4]] == ["[1, 2]", "{'x': 'y'}", "{'k': 1.5}", "1.25"]


def test_a_contract_fixes_names_types_and_order(sandbox: Sandbox) -> None:
    sandbox.model("m", "select 'a' as v, 1::bigint as k", CONTRACT)
    sandbox.run_well()
    assert [field.name for field in sandbox.table("marts/m").schema().fields] == ["k", "v"]
    sandbox.model("m", "select 'a' as v, 'not a number' as k", CONTRACT)
    assert "This model has an enforced contract that failed" in sandbox.run_badly()


@pytest.mark.parametrize(
    ("sql", "complaint"),
    [
        ("select null::bigint as k, 'a' as v", "column k is null, and its constraint is not_null"),
        ("select 1::bigint as k, 'bad' as v", "a row breaks the check v <> 'bad'"),
    ],
)
@pytest.mark.parametrize("strategy", [{}, {"incremental_strategy": "merge", "unique_key": "k"}])
def test_a_row_that_breaks_a_constraint_leaves_the_table_as_it_was(
    sql: str, complaint: str, strategy: dict[str, Any], sandbox: Sandbox
) -> None:
    sandbox.model("m", "select 1::bigint as k, null::varchar as v", CONTRACT, **strategy)
    sandbox.run_well()
    sandbox.model("m", f"select 2::bigint as k, 'good' as v union all {sql}", CONTRACT, **strategy)
    assert complaint in sandbox.run_badly()
    assert sandbox.rows("marts/m") == [(1, None)]
    assert sandbox.table("marts/m").version() == 0


def test_constraints_that_cannot_be_enforced_are_refused(sandbox: Sandbox) -> None:
    columns = [{"name": "k", "data_type": "bigint", "constraints": [{"type": "unique"}]}]
    sandbox.model("m", "select 1::bigint as k", {**CONTRACT, "columns": columns})
    assert "use a data test instead" in sandbox.run_badly()


def test_an_empty_text_cannot_name_a_partition(sandbox: Sandbox) -> None:
    sandbox.model("m", EVENTS, partition_by="v")
    sandbox.write_source("events", _events((1, "")))
    assert "would come back as null" in sandbox.run_badly()


def _interfere(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, action: Callable[[str], None]) -> None:
    """Let another writer act between the moment this run pinned the table and the moment it writes."""
    original = dbt_plugin.ModelWrite.from_target

    def from_target(target: TargetConfig) -> dbt_plugin.ModelWrite:
        action(str(sandbox.lake / "marts" / "m"))
        return original(target)

    monkeypatch.setattr(dbt_plugin.ModelWrite, "from_target", staticmethod(from_target))


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"incremental_strategy": "merge", "unique_key": "k"},
        {"incremental_strategy": "replace_partitions", "partition_by": "v"},
    ],
)
def test_a_table_that_another_writer_changed_meanwhile_is_not_overwritten(
    config: dict[str, Any], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.model("m", EVENTS, **config)
    sandbox.write_source("events", _events((1, "a")))
    sandbox.run_well()
    with monkeypatch.context() as patched:
        _interfere(sandbox, patched, lambda uri: write_deltalake(uri, _events((99, "a")), mode="overwrite"))
        assert "changed by another writer" in sandbox.run_badly()
    assert sandbox.rows("marts/m") == [(99, "a")]
    sandbox.run_well("build", "--full-refresh")
    assert sandbox.rows("marts/m") == [(1, "a")]


def test_a_table_that_another_writer_created_meanwhile_is_left_alone(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.model("m", "select 1::bigint as k, 'mine' as v")
    _interfere(sandbox, monkeypatch, lambda uri: write_deltalake(uri, _events((99, "theirs"))))
    assert "created by another writer" in sandbox.run_badly()
    assert sandbox.rows("marts/m") == [(99, "theirs")]


def test_each_invocation_in_one_process_sees_the_lake_as_it_is_then(sandbox: Sandbox) -> None:
    sandbox.model("m", EVENTS)
    for number in range(3):
        sandbox.write_source("events", _events((number, "x")))
        sandbox.run_well()
        assert sandbox.rows("marts/m") == [(number, "x")]
    (sandbox.lake / "bronze").rename(sandbox.lake / "gone")
    assert f"The lake is {sandbox.lake}" in sandbox.run_badly()


def test_one_invocation_reads_one_version_of_a_source(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.model("m", EVENTS)
    sandbox.model("n", "select n.* from ({{ source_rows() }}) as n where (select count(*) from {{ ref('m') }}) >= 0")
    (sandbox.project / "macros" / "source_rows.sql").write_text(f"{{% macro source_rows() %}}{EVENTS}{{% endmacro %}}")
    sandbox.write_source("events", _events((1, "a")))
    _interfere(sandbox, monkeypatch, lambda _: sandbox.write_source("events", _events((2, "b"))))
    sandbox.run_well()
    assert sandbox.rows("marts/m") == sandbox.rows("marts/n") == [(1, "a")]


def test_many_models_read_one_source_at_four_threads(sandbox: Sandbox) -> None:
    sandbox.write_source("events", pa.table({"k": range(50_000), "v": ["x"] * 50_000}))
    for number in range(16):
        sandbox.model(f"m{number}", f"select k + {number} as k, v from {{{{ source('bronze', 'events') }}}}")
    sandbox.run_well("build", "--threads", "4")
    for number in range(16):
        assert sandbox.table(f"marts/m{number}").version() == 0
        assert min(sandbox.rows(f"marts/m{number}")) == (number, "x")


def test_an_unreadable_table_stops_only_the_models_that_read_it(sandbox: Sandbox) -> None:
    sandbox.write_source("events", _events((1, "a")))
    sandbox.write_source("other", _events((1, "a")))
    features = {"readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}
    protocol = {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **features}}
    log = sandbox.lake / "bronze" / "other" / "_delta_log" / f"{1:020}.json"
    log.write_text(json.dumps(protocol) + "\n")
    sandbox.model("good", EVENTS)
    sandbox.model("bad", "select * from {{ source('bronze', 'other') }}")
    said = sandbox.run_badly()
    assert "deletionVectors" in said
    assert str(sandbox.lake / "bronze" / "other") in said
    assert sandbox.rows("marts/good") == [(1, "a")]


def test_a_table_with_a_lost_file_stops_only_the_models_that_read_it(sandbox: Sandbox) -> None:
    sandbox.write_source("events", _events((1, "a")))
    sandbox.write_source("other", _events((1, "a")))
    for file in (sandbox.lake / "bronze" / "other").glob("*.parquet"):
        file.unlink()
    sandbox.model("good", EVENTS)
    sandbox.model("bad", "select * from {{ source('bronze', 'other') }}")
    assert "No files found" in sandbox.run_badly()
    assert sandbox.rows("marts/good") == [(1, "a")]


def test_the_commit_tells_which_model_and_invocation_wrote_it(sandbox: Sandbox) -> None:
    sandbox.model("m", "select 1 as k")
    sandbox.run_well()
    commit: dict[str, Any] = DeltaTable(str(sandbox.lake / "marts" / "m")).history(1)[0]
    assert commit["dbt_node"] == "model.factory.m"
    assert commit["dbt_invocation_id"]


@pytest.mark.parametrize("name", ["with space", "it's", "é"])
def test_the_lake_may_have_any_name(name: str, sandbox: Sandbox) -> None:
    sandbox.lake = Path(f"{sandbox.lake} {name}")
    sandbox.write_source("events", _events((1, "a")), partition_by=["v"])
    sandbox.model("m", EVENTS)
    sandbox.run_well()
    assert sandbox.rows("marts/m") == [(1, "a")]
