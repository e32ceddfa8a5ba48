"""Write, audit, publish: what readers see of a dbt run, by what its tests said."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from factory_assets.contracts.maintenance import MaintenanceSpec
from factory_assets.lines.upkeep import care_for_lake
from factory_assets.storage.dbt import publish as dbt_publish
from factory_assets.storage.dbt.runs import DbtRuns
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.delta.table_place import TablePlace
from factory_assets.storage.tables.publishes import Publishes
from tests.aged_tables import age_table
from tests.bronze_fixture import complaints
from tests.dbt.conftest import Sandbox

EVENTS = "select * from {{ source('bronze', 'events') }}"
UNIQUE = {"columns": [{"name": "k", "data_tests": ["unique"]}]}
STRATEGIES: list[dict[str, Any]] = [
    {},
    {"incremental_strategy": "append"},
    {"incremental_strategy": "merge", "unique_key": "k"},
    {"incremental_strategy": "delete+insert", "unique_key": "k"},
    {"incremental_strategy": "replace_partitions", "partition_by": "v"},
]


def _not_bad(severity: str = "error") -> dict[str, Any]:
    test = {"accepted_values": {"arguments": {"values": ["bad"]}, "config": {"severity": severity}}}
    test["accepted_values"]["arguments"] = {"values": ["a", "b", "c"]}
    return {"columns": [{"name": "v", "data_tests": [test]}]}


def _events(*rows: tuple[int, str]) -> pa.Table:
    keys, values = zip(*rows, strict=True) if rows else ((), ())
    return pa.table({"k": pa.array(keys, pa.int64()), "v": pa.array(values, pa.string())})


def _files(lake: Path, table: str) -> set[str]:
    return set(DeltaTable(str(lake / table)).file_uris())


@pytest.mark.parametrize("config", STRATEGIES)
def test_a_failed_test_holds_the_rows_and_readers_keep_the_old_ones(config: dict[str, Any], sandbox: Sandbox) -> None:
    sandbox.model("m", EVENTS, _not_bad(), **config)
    sandbox.model("n", "select count(*) as n from {{ ref('m') }}")
    sandbox.write_source("events", _events((1, "a")))
    sandbox.run_well()
    sandbox.write_source("events", _events((2, "bad"), (3, "b")))
    said = sandbox.run_badly()
    assert "marts/m failed: accepted_values_m_v__a__b__c; readers keep version 0" in said
    assert 'dbt show --inline "select * from marts.held__m"' in said
    assert sandbox.rows("marts/m") == [(1, "a")]
    assert sandbox.rows("marts/n") == [(1,)]


@pytest.mark.parametrize("config", STRATEGIES)
def test_what_is_published_are_the_files_that_were_tested(config: dict[str, Any], sandbox: Sandbox) -> None:
    audited = sandbox.project / "audited"
    test = (
        f"select 1 from {{{{ ref('m') }}}} where k < 0 union all select 1 from {{{{ note_files('{audited}') }}}} where false"
    )
    (sandbox.project / "tests").mkdir()
    (sandbox.project / "tests" / "notes_files.sql").write_text(test)
    (sandbox.project / "macros" / "note_files.sql").write_text(
        '{% macro note_files(path) %}{% if execute %}{% set found = run_query("select sql from duckdb_views() where '
        "schema_name = 'marts' and view_name = 'm'\") %}{% do run_query(\"copy (select '\" ~ "
        'found.rows[0][0].replace("\'", "\'\'") ~ "\' as sql) to \'" ~ path ~ "\' (format csv, header false)") %}'
        "{% endif %}(select 1){% endmacro %}"
    )
    sandbox.model("m", EVENTS, **config)
    for rows in ([(1, "a"), (2, "b")], [(2, "b"), (3, "c")]):
        sandbox.write_source("events", _events(*rows))
        sandbox.run_well()
        view = audited.read_text()
        names = {Path(uri).name for uri in _files(sandbox.lake, "marts/m")}
        assert names
        assert all(name in view for name in names)
        assert view.count(".parquet") == len(names)


def test_a_first_version_that_fails_is_no_table(sandbox: Sandbox) -> None:
    sandbox.model("m", EVENTS, _not_bad())
    sandbox.write_source("events", _events((1, "bad")))
    assert "there is no table for readers yet" in sandbox.run_badly()
    assert not (sandbox.lake / "marts" / "m" / "_delta_log").exists()
    sandbox.write_source("events", _events((1, "a")))
    sandbox.run_well()
    assert sandbox.rows("marts/m") == [(1, "a")]
    assert Publishes.read(Lake(str(sandbox.lake))).held == []


def test_held_rows_can_be_looked_at(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    sandbox.model("m", EVENTS, _not_bad(), incremental_strategy="append")
    sandbox.write_source("events", _events((1, "a")))
    sandbox.run_well()
    sandbox.write_source("events", _events((2, "bad")))
    sandbox.run_badly()
    shown = sandbox.run_well("show", "--inline", "select * from marts.held__m order by k")
    table = shown.result.results[0].agate_table
    assert [tuple(row) for row in table.rows] == [(1, "a"), (2, "bad")]


def test_a_warning_does_not_hold(sandbox: Sandbox) -> None:
    sandbox.model("m", EVENTS, _not_bad("warn"))
    sandbox.write_source("events", _events((1, "bad")))
    sandbox.run_well()
    assert sandbox.rows("marts/m") == [(1, "bad")]


def test_dbt_run_publishes_nothing_unless_told_to(sandbox: Sandbox) -> None:
    sandbox.model("m", EVENTS, UNIQUE)
    sandbox.write_source("events", _events((1, "a")))
    assert "marts/m this command runs no tests" in sandbox.run_badly("run")
    assert not (sandbox.lake / "marts" / "m" / "_delta_log").exists()
    sandbox.run_well("run", "--vars", json.dumps({"publish_unaudited": True}))
    assert sandbox.rows("marts/m") == [(1, "a")]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--exclude-resource-type", "test"),
        ("--exclude", "unique_m_k"),
        ("--resource-type", "model"),
        ("--exclude", "test_type:data"),
    ],
)
def test_a_selection_that_drops_tests_holds_by_name(arguments: tuple[str, ...], sandbox: Sandbox) -> None:
    sandbox.model("m", EVENTS, UNIQUE)
    sandbox.write_source("events", _events((1, "a")))
    assert "marts/m did not run: unique_m_k" in sandbox.run_badly("build", *arguments)
    assert not (sandbox.lake / "marts" / "m" / "_delta_log").exists()
    sandbox.run_well("build", *arguments, "--vars", json.dumps({"publish_unaudited": True}))
    assert sandbox.rows("marts/m") == [(1, "a")]


def test_publishing_unaudited_still_holds_what_failed(sandbox: Sandbox) -> None:
    sandbox.model("m", EVENTS, UNIQUE)
    sandbox.write_source("events", _events((1, "a"), (1, "b")))
    assert "failed: unique_m_k" in sandbox.run_badly("build", "--vars", json.dumps({"publish_unaudited": True}))
    assert not (sandbox.lake / "marts" / "m" / "_delta_log").exists()


def test_what_does_not_stand_on_a_held_model_is_published(sandbox: Sandbox) -> None:
    sandbox.write_source("events", _events((1, "bad")))
    sandbox.model("held", EVENTS, _not_bad())
    sandbox.model("free", EVENTS)
    sandbox.run_badly()
    assert sandbox.rows("marts/free") == [(1, "bad")]
    assert not (sandbox.lake / "marts" / "held" / "_delta_log").exists()


def test_a_child_that_was_built_before_its_parent_failed_is_held_too(sandbox: Sandbox) -> None:
    """A test of two parents runs after both, and a child of one of them need not wait for it."""
    sandbox.write_source("events", _events((1, "a")))
    sandbox.model("parent", EVENTS)
    sandbox.model("child", "select k from {{ ref('parent') }}")
    sandbox.model(
        "other", "select k from {{ source('bronze', 'events') }} where (select count(*) from {{ ref('child') }}) > 0"
    )
    (sandbox.project / "tests").mkdir()
    test = "select a.k from {{ ref('parent') }} as a join {{ ref('other') }} as b using (k)"
    (sandbox.project / "tests" / "no_overlap.sql").write_text(test)
    said = sandbox.run_badly()
    assert "marts/parent failed: no_overlap" in said
    assert "marts/child it is built from parent, which is held" in said
    assert not list(sandbox.lake.glob("marts/*/_delta_log"))


def test_fail_fast_holds_what_it_did_not_get_to(sandbox: Sandbox) -> None:
    sandbox.write_source("events", _events((1, "bad")))
    sandbox.model("a", EVENTS, _not_bad())
    sandbox.model("b", "select * from {{ source('bronze', 'events') }}", UNIQUE)
    result = sandbox.run("build", "--fail-fast", "--threads", "1")
    assert not result.success
    assert not (sandbox.lake / "marts" / "a" / "_delta_log").exists()
    published = (sandbox.lake / "marts" / "b" / "_delta_log").exists()
    ran = {node.node.name: str(node.status) for node in result.result.results}
    assert published == (ran.get("unique_b_k") == "pass")


def test_a_model_that_fails_holds_nothing_else(sandbox: Sandbox) -> None:
    sandbox.write_source("events", _events((1, "a")))
    sandbox.model("broken", "select error('no') as k")
    sandbox.model("fine", EVENTS)
    sandbox.run_badly()
    assert sandbox.rows("marts/fine") == [(1, "a")]


def test_a_publish_that_fails_fails_the_run(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.write_source("events", _events((1, "a")))
    sandbox.model("m", EVENTS)
    monkeypatch.setattr(TablePlace, "sync", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    assert "disk full" in sandbox.run_badly()
    assert not (sandbox.lake / "marts" / "m" / "_delta_log").exists()


def test_the_exit_code_tells_that_something_is_held(sandbox: Sandbox) -> None:
    sandbox.write_source("events", _events((1, "a")))
    sandbox.model("m", EVENTS, UNIQUE)
    result = sandbox.run("run")
    assert not result.success
    # An exception would be dbt's exit code 2: this is a result like any other that did not pass.
    assert result.exception is None
    assert [str(node.status) for node in result.result.results if node.node.resource_type == "operation"] == ["error"]
    assert "NOT PUBLISHED" in complaints(result)


def test_readers_of_several_tables_pin_one_completed_run(sandbox: Sandbox) -> None:
    sandbox.model("flights", EVENTS)
    sandbox.model("weather", EVENTS, _not_bad())
    lake = Lake(str(sandbox.lake))
    sandbox.write_source("events", _events((1, "a")))
    sandbox.run_well()
    sandbox.write_source("events", _events((2, "bad")))
    sandbox.run_badly()
    assert sandbox.rows("marts/flights") == [(2, "bad")]
    flights, weather = lake.pin_published("marts/flights", "marts/weather")
    assert (flights.version, weather.version) == (0, 0)
    sandbox.model("mart", "select f.k from {{ ref('flights') }} as f join {{ ref('weather') }} as w using (k)")
    sandbox.run_well("build", "--select", "mart")
    assert sandbox.rows("marts/mart") == [(1,)]
    sandbox.write_source("events", _events((3, "c")))
    sandbox.run_well()
    assert sandbox.rows("marts/mart") == [(3,)]
    flights, weather = lake.pin_published("marts/flights", "marts/weather")
    assert (flights.version, weather.version) == (2, 1)


def test_an_unchanged_table_counts_as_built(sandbox: Sandbox) -> None:
    sandbox.model("m", EVENTS + "{% if is_incremental() %} where false {% endif %}", incremental_strategy="append")
    sandbox.write_source("events", _events((1, "a")))
    sandbox.run_well()
    sandbox.run_well()
    assert sandbox.table("marts/m").version() == 0
    assert Lake(str(sandbox.lake)).pin_published("marts/m")[0].version == 0


def test_an_append_continues_what_was_published_not_what_readers_pin(sandbox: Sandbox) -> None:
    """A run that did not complete has published its append; the next one must not append the same rows again."""
    newer = "{% if is_incremental() %} where k > (select max(k) from {{ this }}) {% endif %}"
    sandbox.model("m", EVENTS + newer, incremental_strategy="append")
    sandbox.model("fails", EVENTS, _not_bad())
    sandbox.write_source("events", _events((1, "a")))
    sandbox.run_well()
    sandbox.write_source("events", _events((1, "a"), (2, "bad")))
    sandbox.run_badly()
    sandbox.run_badly()
    assert sandbox.rows("marts/m") == [(1, "a"), (2, "bad")]


def test_compaction_in_between_is_no_conflict(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.model("m", EVENTS, incremental_strategy="append")
    for number in range(3):
        sandbox.write_source("events", _events((number, "a")))
        sandbox.run_well()
    original = dbt_publish.publish_stages

    def publish_stages(*arguments: Any) -> Any:
        DeltaTable(str(sandbox.lake / "marts/m")).optimize.compact()
        return original(*arguments)

    monkeypatch.setattr("factory_assets.storage.dbt.staged_run.publish_stages", publish_stages)
    sandbox.write_source("events", _events((3, "a")))
    sandbox.run_well()
    assert sandbox.rows("marts/m") == [(number, "a") for number in range(4)]
    assert sandbox.table("marts/m").version() == 4


def test_stages_that_nobody_needs_are_swept(sandbox: Sandbox) -> None:
    from datetime import UTC, datetime, timedelta

    sandbox.model("m", EVENTS, _not_bad())
    lake = Lake(str(sandbox.lake))
    for value in ("a", "bad", "bad", "bad"):
        sandbox.write_source("events", _events((1, value)))
        sandbox.run()
    stages = sorted(sandbox.lake.glob("marts/m/staged/*"))
    assert len(stages) == 4
    assert dbt_publish.sweep_stages(lake) == []
    swept = dbt_publish.sweep_stages(lake, timedelta(0), datetime.now(UTC) + timedelta(seconds=5))
    assert len(swept) == 2
    assert sandbox.rows("marts/m") == [(1, "a")]
    held = sandbox.run_well("show", "--inline", "select * from marts.held__m").result.results[0].agate_table
    assert [tuple(row) for row in held.rows] == [(1, "bad")]


def test_other_readers_see_the_published_files(sandbox: Sandbox) -> None:
    sandbox.model("m", EVENTS, incremental_strategy="merge", unique_key="k", partition_by="v")
    odd = [(1, "a/b c"), (2, "it's"), (3, "é"), (4, "100%")]
    sandbox.write_source("events", _events(*odd))
    sandbox.run_well()
    sandbox.write_source("events", _events((1, "moved"), (5, "a/b c")))
    sandbox.run_well()
    expected = sorted([(1, "moved"), *odd[1:], (5, "a/b c")])
    theirs = DeltaTable(str(sandbox.lake / "marts/m")).to_pyarrow_table()
    with duckdb.connect() as connection:
        connection.register("theirs", theirs)
        assert sorted(connection.sql("select k, v from theirs").fetchall()) == expected
    assert sandbox.rows("marts/m") == expected
    DeltaTable(str(sandbox.lake / "marts/m")).create_checkpoint()
    assert sandbox.rows("marts/m") == expected


def test_a_round_of_care_keeps_what_readers_pin_and_what_is_held(sandbox: Sandbox) -> None:
    sandbox.model("flights", EVENTS)
    sandbox.model("weather", EVENTS, _not_bad())
    lake = Lake(str(sandbox.lake))
    sandbox.write_source("events", _events((1, "a")))
    sandbox.run_well()
    for key in (2, 3, 4):
        sandbox.write_source("events", _events((key, "bad")))
        sandbox.run_badly()
    for name in ("flights", "weather"):
        age_table(sandbox.lake / "marts" / name, 30)
    cared = {care.table: care for care in care_for_lake(lake, MaintenanceSpec(retention="1h", compact_from=2), [])}
    assert {care.problem for care in cared.values()} == {None}
    assert cared["marts/flights"].kept_versions == (0,)
    # The files of versions 1 and 2, and the logs that each of the four stages had of its own.
    assert cared["marts/flights"].files_freed == 2 + 4
    for table in lake.pin_published("marts/flights", "marts/weather"):
        assert lake.query("select k, v from t", t=table).to_pylist() == [{"k": 1, "v": "a"}]
    assert sandbox.rows("marts/flights") == [(4, "bad")]
    held = sandbox.run_well("show", "--inline", "select * from marts.held__weather").result.results[0].agate_table
    assert [tuple(row) for row in held.rows] == [(4, "bad")]


def _let_another_writer_in_before(monkeypatch: pytest.MonkeyPatch, lake: Path, commits: int) -> list[str]:
    """Another program appends to a table just before the run publishes that one, its `commits`-th; returns its name."""
    write, met = dbt_publish.write_commit, []

    def write_commit(place: TablePlace, version: int, actions: Any) -> None:
        met.append(place.table_name)
        if len(met) == commits + 1:
            write_deltalake(str(lake / place.table_name), _events((100, "theirs")), mode="append")
        write(place, version, actions)

    monkeypatch.setattr(dbt_publish, "write_commit", write_commit)
    return met


@pytest.mark.parametrize("commits", [0, 1])
def test_another_writer_in_the_midst_of_publishing_stops_the_set(
    commits: int, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = "{% if is_incremental() %} where k not in (select k from {{ this }}) {% endif %}"
    for name in ("m", "n"):
        sandbox.model(name, EVENTS + newer, incremental_strategy="append")
    lake = Lake(str(sandbox.lake))
    sandbox.write_source("events", _events((1, "a")))
    sandbox.run_well()
    with monkeypatch.context() as patch:
        met = _let_another_writer_in_before(patch, sandbox.lake, commits)
        sandbox.write_source("events", _events((1, "a"), (2, "b")))
        result = sandbox.run()
    assert not result.success
    assert result.exception is None
    lost, kept = met[commits], met[1 - commits]
    said = f"{lost} was changed by another writer after this run had read version 0, so its new rows were not published"
    assert said in complaints(result)
    assert [table.version for table in lake.pin_published("marts/m", "marts/n")] == [0, 0]
    assert sandbox.rows(lost) == [(1, "a"), (100, "theirs")]
    assert sandbox.rows(kept) == [(1, "a"), (2, "b")]
    assert Publishes.read(lake).pending == []
    sandbox.run_well()
    assert sandbox.rows(lost) == [(1, "a"), (2, "b"), (100, "theirs")]
    assert sandbox.rows(kept) == [(1, "a"), (2, "b")]
    versions = [table.version for table in lake.pin_published(lost, kept)]
    assert versions == [sandbox.table(lost).version(), sandbox.table(kept).version()]


def test_the_factory_builds_again_on_what_a_faster_writer_wrote(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = "{% if is_incremental() %} where k not in (select k from {{ this }}) {% endif %}"
    for name in ("m", "n"):
        sandbox.model(name, EVENTS + newer, incremental_strategy="append")
    sandbox.write_source("events", _events((1, "a")))
    sandbox.run_well()
    sandbox.write_source("events", _events((1, "a"), (2, "b")))
    met = _let_another_writer_in_before(monkeypatch, sandbox.lake, 1)
    outcome = DbtRuns(sandbox.project, sandbox.work, str(sandbox.lake)).build([])
    assert outcome.success, outcome.failures
    assert len(met) == 3
    for name in met[:2]:
        theirs = [(100, "theirs")] if name == met[1] else []
        assert sandbox.rows(name) == [(1, "a"), (2, "b"), *theirs]
    assert set(outcome.versions) == {"model.factory.m", "model.factory.n"}
    assert {table.name: table.version for table in Lake(str(sandbox.lake)).pin_published(*met[:2])} == {met[0]: 1, met[1]: 2}


def test_the_factory_gives_up_when_another_writer_is_faster_each_time(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.model("m", EVENTS)
    sandbox.write_source("events", _events((1, "a")))
    sandbox.run_well()
    write = dbt_publish.write_commit
    theirs = []

    def write_commit(place: TablePlace, version: int, actions: Any) -> None:
        theirs.append(place.table_name)
        write_deltalake(place.uri, _events((100 + len(theirs), "theirs")), mode="append")
        write(place, version, actions)

    monkeypatch.setattr(dbt_publish, "write_commit", write_commit)
    outcome = DbtRuns(sandbox.project, sandbox.work, str(sandbox.lake)).build([])
    assert not outcome.success
    assert len(theirs) == 3
    assert any("was changed by another writer" in failure for failure in outcome.failures)
    assert outcome.versions == {}
    assert sandbox.rows("marts/m") == [(1, "a"), (101, "theirs"), (102, "theirs"), (103, "theirs")]


def test_a_build_that_waits_too_long_for_another_names_it(sandbox: Sandbox) -> None:
    sandbox.model("m", EVENTS)
    sandbox.write_source("events", _events((1, "a")))
    profiles = sandbox.project / "profiles.yml"
    uri = "            # A relative path counts from this folder."
    profiles.write_text(profiles.read_text().replace(uri, f"            lock_timeout_seconds: 0.1\n{uri}", 1))
    sandbox.lake.mkdir(exist_ok=True)
    code = (
        "import sys, pathlib; from factory_assets.storage.delta.lake_lock import take_lake; "
        "take_lake(pathlib.Path(sys.argv[1]), 60); print('taken', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(sandbox.lake.resolve())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "taken\n"
        said = sandbox.run_badly()
        other.communicate("")
    assert f"another dbt build (process {other.pid}) has had the lake {sandbox.lake}" in said
    assert "for more than 0.1 seconds: wait for it, or end it, and build again" in said
    sandbox.run_well()


def test_a_table_that_a_prepared_commit_would_break_is_refused_by_name(sandbox: Sandbox) -> None:
    sandbox.model("m", EVENTS, incremental_strategy="append")
    sandbox.write_source("events", _events((1, "a")))
    sandbox.run_well()
    log = sandbox.lake / "marts" / "m" / "_delta_log" / f"{1:020}.json"
    protocol = {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["domainMetadata", "rowTracking"]}
    log.write_text(json.dumps({"protocol": protocol}) + "\n")
    said = sandbox.run_badly()
    assert "marts/m uses the Delta feature 'domainMetadata', which a dbt model cannot keep up: make the table anew" in said
    assert not (log.parent / f"{2:020}.json").exists()


def test_eight_threads_publish_all_or_nothing_of_each_table(sandbox: Sandbox) -> None:
    names = [f"m{number}" for number in range(12)]
    for name in names:
        sandbox.model(name, EVENTS, UNIQUE, incremental_strategy="merge", unique_key="k")
    for rows in ([(1, "a")], [(1, "b"), (2, "c")]):
        sandbox.write_source("events", _events(*rows))
        sandbox.run_well("build", "--threads", "8")
        assert [sandbox.rows(f"marts/{name}") for name in names] == [rows] * len(names)
