"""A sandbox reads production and writes beside it; the past is read by version or instant, and rebuilt in a sandbox."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from factory_assets.cli import app
from factory_assets.storage.dbt.sandboxes import SandboxError, find_sandbox, list_sandboxes
from factory_assets.storage.dbt.time_travel import Pin, TimeTravelError
from factory_assets.storage.delta.lake import FACTORY_TIME, PUBLISHES, Lake, TableSpec
from tests.bronze_fixture import DBT_PROJECT, PARTITIONED, complaints, read_raw, run_dbt
from tests.dbt.conftest import Sandbox

FIRST_OF_MAY = datetime(2013, 5, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def ada(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACTORY_SANDBOX", "ada")


@pytest.fixture
def lake(sandbox: Sandbox) -> Iterator[Lake]:
    """Production, with two models over one source that has three versions."""
    lake = Lake(str(sandbox.lake))
    for number in range(3):
        write_events(lake, number, FIRST_OF_MAY + timedelta(days=number))
    sandbox.model("first", "select * from {{ source('bronze', 'events') }}")
    sandbox.model("second", "select n * 10 as n from {{ ref('first') }}")
    sandbox.run_well("build")
    return lake


def write_events(lake: Lake, number: int, at: datetime) -> None:
    rows = pa.table({"n": pa.array([number], pa.int64())})
    lake.replace(TableSpec("bronze/events", rows.schema, ("n",)), rows, note={FACTORY_TIME: at.isoformat()})


def dev(sandbox: Sandbox, *arguments: str, **variables: object) -> None:
    sandbox.run_well(*arguments, "--target", "dev", "--vars", json.dumps(variables))


def values(lake: Lake, table: str) -> list[object]:
    return lake.query("select n from t order by all", t=lake.pin(table)).column("n").to_pylist()


def snapshot(lake: Lake) -> dict[str, int]:
    return {
        str(file): file.stat().st_mtime_ns
        for file in Path(lake.root).rglob("*")
        if file.is_file() and ".dbt" not in file.name
    }


def test_a_sandbox_reads_what_is_not_built_there_and_never_writes_to_production(sandbox: Sandbox, lake: Lake) -> None:
    before = snapshot(lake)
    sandbox.model("second", "select n * 100 as n from {{ ref('first') }}")
    dev(sandbox, "build", "--select", "second")
    own = find_sandbox(lake, "ada")
    assert own.files.table_names().count("marts/second") == 1
    assert own.find("marts/first") is None
    assert values(own, "marts/second") == [200]
    assert values(lake, "marts/second") == [20]
    assert snapshot(lake) == before


def test_what_is_built_in_the_sandbox_hides_productions(sandbox: Sandbox, lake: Lake) -> None:
    sandbox.model("first", "select n + 1 as n from {{ source('bronze', 'events') }}")
    dev(sandbox, "build", "--select", "first")
    dev(sandbox, "build", "--select", "second")
    assert values(find_sandbox(lake, "ada"), "marts/second") == [30]
    sandbox.run_well("build", "--select", "second")
    assert values(lake, "marts/second") == [20]


def test_an_incremental_model_is_whole_in_a_sandbox(sandbox: Sandbox, lake: Lake) -> None:
    """Production's rows are not the sandbox's: without them an increment alone would pass for the table."""
    sql = (
        "select n from {{ source('bronze', 'events') }} union all select 7 "
        "{% if is_incremental() %}except select n from {{ this }}{% endif %}"
    )
    sandbox.model("added", sql, incremental_strategy="merge", unique_key="n")
    sandbox.run_well("build", "--select", "added")
    for _ in range(2):
        dev(sandbox, "build", "--select", "added")
        assert values(find_sandbox(lake, "ada"), "marts/added") == [2, 7]


def test_analysts_do_not_meet(sandbox: Sandbox, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    dev(sandbox, "build", "--select", "second")
    monkeypatch.setenv("FACTORY_SANDBOX", "bob")
    sandbox.model("second", "select n * 5 as n from {{ ref('first') }}")
    dev(sandbox, "build", "--select", "second")
    assert [box.name for box in list_sandboxes(lake)] == ["ada", "bob"]
    assert values(find_sandbox(lake, "ada"), "marts/second") == [20]
    assert values(find_sandbox(lake, "bob"), "marts/second") == [10]


def test_dbts_own_defer_reads_the_state_that_it_is_given(sandbox: Sandbox, lake: Lake, tmp_path: Path) -> None:
    """Beside a sandbox, which needs it not, and in production: what is not selected is read where the state says it lies."""
    state = tmp_path / "state"
    sandbox.run_well("compile")
    shutil.copytree(sandbox.work / "target", state, ignore=shutil.ignore_patterns("compiled", "run"))
    defer = ("--defer", "--state", str(state))
    # The edit renames the table that `second` reads; the state still knows it as `first`.
    sandbox.model("first", "select n + 1 as n from {{ source('bronze', 'events') }}", alias="first_renamed")
    dev(sandbox, "build", "--select", "second", *defer)
    assert values(find_sandbox(lake, "ada"), "marts/second") == [20]
    dev(sandbox, "build", "--select", "state:modified", *defer)
    assert values(find_sandbox(lake, "ada"), "marts/first_renamed") == [3]
    assert find_sandbox(lake, "ada").find("marts/first") is None
    dev(sandbox, "build", "--select", "state:modified+", *defer)
    assert values(find_sandbox(lake, "ada"), "marts/second") == [30]
    assert values(lake, "marts/second") == [20]
    sandbox.run_well("build", "--select", "second", *defer)
    assert values(lake, "marts/second") == [20]
    assert "Table with name first_renamed does not exist" in sandbox.run_badly("build", "--select", "second")


@pytest.mark.parametrize("name", ["../lake", "", "a/b", ".."])
def test_a_sandbox_lies_nowhere_else(name: str, sandbox: Sandbox, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SandboxError, match="is no name for a sandbox"):
        find_sandbox(lake, name)
    monkeypatch.setenv("FACTORY_SANDBOX", name)
    said = sandbox.run_badly("build", "--target", "dev")
    assert "is no name for a sandbox" in said
    assert said.startswith("Database Error")  # dbt shows where in the code anything else was raised


def test_one_command_lists_and_removes_it(sandbox: Sandbox, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACTORY_LAKE_URI", lake.root)
    dev(sandbox, "build", "--select", "second")
    dev(sandbox, "build", "--select", "first", as_of=FIRST_OF_MAY.isoformat())
    before = snapshot(lake)
    listed = CliRunner().invoke(app, ["sandbox", "list"])
    assert "ada: " in listed.output
    assert "ada@20130501T000000Z: " in listed.output
    asked = CliRunner().invoke(app, ["sandbox", "drop"], input="n\n")
    assert "marts/second" in asked.output
    assert len(list_sandboxes(lake)) == 2
    dropped = CliRunner().invoke(app, ["sandbox", "drop", "--yes"])
    assert dropped.exit_code == 0, dropped.output
    assert list_sandboxes(lake) == []
    assert snapshot(lake) == before
    assert "there is no sandbox of 'ada'" in CliRunner().invoke(app, ["sandbox", "drop"]).output


# --- Time travel ---


def test_a_source_is_pinned_to_a_version_the_first_included(sandbox: Sandbox, lake: Lake) -> None:
    pin_source(sandbox, {"version": 0})
    dev(sandbox, "build")
    assert values(find_sandbox(lake, "ada"), "marts/second") == [0]
    pin_source(sandbox, {"as_of": "2013-05-02T12:00:00Z"})
    dev(sandbox, "build")
    assert values(find_sandbox(lake, "ada"), "marts/second") == [10]
    # A pin that the project itself declares is its own business in production too.
    sandbox.run_well("build")
    assert values(lake, "marts/second") == [10]


def pin_source(sandbox: Sandbox, pin: dict[str, object]) -> None:
    table = {"name": "events", "config": {"meta": {"delta": pin}}}
    sources = {"version": 2, "sources": [{"name": "bronze", "tables": [table, {"name": "other"}]}]}
    (sandbox.project / "models" / "sources.yml").write_text(json.dumps(sources))


def test_one_invocation_pins_sources_and_refs(sandbox: Sandbox, lake: Lake) -> None:
    write_events(lake, 9, FIRST_OF_MAY + timedelta(days=9))
    sandbox.run_well("build")
    dev(sandbox, "build", "--select", "second", pins={"marts/first": 0})
    assert values(find_sandbox(lake, "ada"), "marts/second") == [20]
    assert "is pinned to a version, so it is not built" in sandbox.run_badly(
        "build", "--target", "dev", "--vars", json.dumps({"pins": {"marts/first": 0}})
    )


@pytest.mark.parametrize(
    ("as_of", "expected"),
    [("2013-05-01", 0), ("2013-05-02T00:00:00Z", 1), ("2013-05-02T23:59:59+00:00", 1), ("2014-01-01", 2)],
)
def test_an_instant_is_the_newest_version_at_that_time(as_of: str, expected: int, sandbox: Sandbox, lake: Lake) -> None:
    dev(sandbox, "build", as_of=as_of)
    (box,) = list_sandboxes(lake, "ada")
    assert values(box.lake, "marts/first") == [expected]
    assert values(lake, "marts/first") == [2]


def test_an_instant_is_one_completed_run_and_never_a_half_published_one(sandbox: Sandbox, lake: Lake) -> None:
    """`first` went on to 7 while `second`, which its test holds, stayed at 2: no instant shows the one beside the other."""
    completed = newest_instant(lake, PUBLISHES)
    write_events(lake, 7, FIRST_OF_MAY + timedelta(days=7))
    failing = {"columns": [{"name": "n", "data_tests": [{"accepted_values": {"arguments": {"values": [20]}}}]}]}
    sandbox.model("second", "select n * 10 as n from {{ ref('first') }}", failing)
    assert "failed: accepted_values" in sandbox.run_badly("build")
    half = newest_instant(lake, PUBLISHES)
    assert (values(lake, "marts/first"), values(lake, "marts/second")) == ([7], [20])
    sandbox.model("second", "select n * 10 as n from {{ ref('first') }}")
    sandbox.run_well("build")
    whole = newest_instant(lake, PUBLISHES)
    both = "select f.n, s.n as tenfold from {{ ref('first') }} as f cross join {{ ref('second') }} as s"
    sandbox.model("both", both)
    for instant, expected in ((completed, (2, 20)), (half, (2, 20)), (whole, (7, 70))):
        dev(sandbox, "build", "--select", "both", as_of=instant.isoformat())
        rebuilt = find_sandbox(lake, "ada", instant)
        assert [tuple(row.values()) for row in rows_of(rebuilt, "marts/both")] == [expected]
        # A pin of one table to an instant means the same.
        dev(sandbox, "build", "--select", "both", pins={"marts/first": instant.isoformat(), "marts/second": {"version": 0}})
        assert rows_of(find_sandbox(lake, "ada"), "marts/both")[0]["n"] == expected[0]


def newest_instant(lake: Lake, table: str) -> datetime:
    """When the newest commit of a table was made, to the millisecond that the log keeps."""
    return datetime.fromtimestamp(lake.pin(table).handle.history(1)[0]["timestamp"] / 1000, tz=UTC)


def rows_of(lake: Lake, table: str) -> list[dict[str, object]]:
    return lake.query("select * from t order by all", t=lake.pin(table)).to_pylist()


def test_an_instant_whose_record_is_gone_says_so(sandbox: Sandbox, lake: Lake) -> None:
    instant = newest_instant(lake, PUBLISHES)
    write_events(lake, 7, FIRST_OF_MAY + timedelta(days=7))
    sandbox.run_well("build")
    record = lake.pin(PUBLISHES)
    for file in Path(lake.uri(PUBLISHES)).glob("*.parquet"):
        if file.name not in {Path(uri).name for uri in record.handle.file_uris()}:
            file.unlink()
    variables = json.dumps({"as_of": instant.isoformat()})
    said = sandbox.run_badly("build", "--select", "second", "--target", "dev", "--vars", variables)
    assert f"which tables belonged together at {instant.isoformat()} is no longer kept" in said


def test_an_instant_before_the_table_is_told_from_both_ends(sandbox: Sandbox, lake: Lake) -> None:
    variables = json.dumps({"as_of": "2013-04-30T00:00:00Z"})
    said = sandbox.run_badly("build", "--target", "dev", "--vars", variables)
    assert "table bronze/events did not exist at 2013-04-30T00:00:00+00:00" in said
    assert "its first version is of 2013-05-01T00:00:00+00:00" in said


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"as_of": "2013-05-01"}, "build it in a sandbox, with --target dev"),
        ({"pins": {"bronze/events": 0}}, "build it in a sandbox, with --target dev"),
        ({"as_of": "yesterday"}, "--vars as_of: not an instant"),
        ({"pins": {"bronze/events": 17}}, "table bronze/events has no version 17 that can be read: its newest is 2"),
        ({"pins": {"bronze/events": {"versoin": 1}}}, "names no version"),
        ({"pins": ["bronze/events"]}, "expected tables with their versions"),
    ],
)
def test_what_cannot_be_read_or_must_not_be_written_is_refused(
    variables: dict[str, object], said: str, sandbox: Sandbox, lake: Lake
) -> None:
    target = "local" if "sandbox" in said else "dev"
    before = values(lake, "marts/second")
    assert said in sandbox.run_badly("build", "--target", target, "--vars", json.dumps(variables))
    assert values(lake, "marts/second") == before


@pytest.mark.parametrize("value", [True, -1, 1.5, "", {"as_of": 3}, {"version": "2013-05-01"}, {}])
def test_what_is_no_pin_is_refused(value: object) -> None:
    with pytest.raises(TimeTravelError, match="write"):
        Pin.read(value, "here")


def test_the_marts_are_rebuilt_from_bronze_byte_for_byte(tmp_path: Path) -> None:
    """As they were after the second ingest, although two more came in since and the marts went on incrementally."""
    lake = Lake(str(tmp_path / "lake"))
    first = date(2013, 1, 1)
    then: dict[str, bytes] = {}
    for number, last in enumerate([date(2013, 1, 2), date(2013, 1, 3), date(2013, 1, 5)]):
        at = datetime(2013, 1, 2 + number, 6, tzinfo=UTC)
        for name in ("flights", "weather", "planes", "airlines", "airports"):
            rows = read_raw(name, first, last, ingested_at=at)
            partition_by = ("partition_date",) if name in PARTITIONED else ()
            lake.replace(
                TableSpec(f"bronze/{name}", rows.schema, (), partition_by), rows, note={FACTORY_TIME: at.isoformat()}
            )
        result = run_dbt(lake.root, tmp_path, ["build", "--exclude-resource-type", "unit_test"], DBT_PROJECT)
        assert result.success, complaints(result)
        if number == 1:
            then = row_bytes(lake)
    variables = json.dumps({"as_of": "2013-01-03T12:00:00Z"})
    arguments = ["build", "--exclude-resource-type", "unit_test", "--target", "dev", "--vars", variables]
    result = run_dbt(lake.root, tmp_path, arguments, DBT_PROJECT)
    assert result.success, complaints(result)
    (box,) = list_sandboxes(lake, "ada")
    rebuilt = row_bytes(box.lake)
    assert {"staging/stg_flights", "marts/fct_flight", "features/feat_flight_departure"} <= set(rebuilt)
    assert rebuilt == then
    assert row_bytes(lake) != then


def row_bytes(lake: Lake) -> dict[str, bytes]:
    """The tables that dbt built as Parquet: all column chunks and the schema, of the rows in the order of all columns."""
    found: dict[str, bytes] = {}
    for name in lake.files.table_names():
        if name.startswith(("staging/", "marts/", "features/")):
            rows = lake.query("select * from t order by all", t=lake.pin(name))
            encoded = pa.BufferOutputStream()
            pq.write_table(rows.replace_schema_metadata(None), encoded)
            found[name] = encoded.getvalue().to_pybytes()
    return found
