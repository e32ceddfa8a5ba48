"""Tables of thousands of files: read in, a partition of them replaced, and written anew."""

from datetime import date, timedelta

import duckdb
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from factory_assets.storage.delta.snapshots import select_sql
from tests.dbt.conftest import Sandbox

DAYS = 3_000
_FIRST = date(2013, 1, 1)
_DAY = _FIRST + timedelta(days=1_234)


def write_days(uri: str, offset: int) -> None:
    """A file of one row a day."""
    days = pa.array([_FIRST + timedelta(days=number) for number in range(DAYS)], pa.date32())
    write_deltalake(uri, pa.table({"day": days, "n": [number + offset for number in range(DAYS)]}), partition_by=["day"])


def add_commits(sandbox: Sandbox, name: str, count: int) -> None:
    """Spread a table's files over as many commits more, and leave its log without a checkpoint."""
    log = sandbox.lake / name / "_delta_log"
    first = log / f"{0:020}.json"
    actions = first.read_text().splitlines(keepends=True)
    adds = [line for line in actions if line.startswith('{"add"')]
    first.write_text("".join(line for line in actions if line not in set(adds)))
    for number in range(count):
        (log / f"{number + 1:020}.json").write_text("".join(adds[number::count]))
    assert not list(log.glob("*checkpoint*"))


@pytest.mark.parametrize("threads", ["1", "4"])
def test_a_partition_of_thousands_is_replaced_and_the_whole_is_written_anew(threads: str, sandbox: Sandbox) -> None:
    write_days(str(sandbox.lake / "bronze" / "events"), 0)
    write_days(str(sandbox.lake / "marts" / "by_day"), 1_000_000)
    newer = "{% if is_incremental() %} where day = '" + _DAY.isoformat() + "' {% endif %}"
    sandbox.model(
        "by_day",
        "select * from {{ source('bronze', 'events') }}" + newer,
        {"columns": [{"name": "day", "data_tests": ["unique", "not_null"]}]},
        incremental_strategy="replace_partitions",
        partition_by="day",
    )
    sandbox.model("whole", "select * from {{ ref('by_day') }}", {"columns": [{"name": "n", "data_tests": ["unique"]}]})
    sandbox.run_well("build", "--threads", threads)
    expected = {number + 1_000_000 for number in range(DAYS)} - {1_001_234} | {1_234}
    for name in ("marts/by_day", "marts/whole"):
        assert {row[1] for row in sandbox.rows(name)} == expected
    replaced = sandbox.table("marts/by_day")
    assert len(replaced.file_uris()) == DAYS
    # Only the one file came and the one went: nothing else was written again.
    (commit,) = replaced.history(1)
    metrics = commit["operationMetrics"]
    assert (metrics["num_added_files"], metrics["num_removed_files"]) == (1, 1)
    day = f"SELECT n FROM ({select_sql(replaced)}) WHERE day = DATE '{_DAY}'"
    assert duckdb.execute(day).fetchall() == [(1_234,)]
    assert "Total Files Read: 1 " in duckdb.execute(f"EXPLAIN ANALYZE {day}").fetchall()[0][1]


def test_a_log_of_a_thousand_commits_without_a_checkpoint_is_read_and_continued(sandbox: Sandbox) -> None:
    for name in ("bronze/events", "marts/merged"):
        write_days(str(sandbox.lake / name), 0)
        add_commits(sandbox, name, 1_000)
    sandbox.model(
        "merged",
        "select day, n * 10 as n from {{ source('bronze', 'events') }} where day < '2013-01-03'",
        incremental_strategy="merge",
        unique_key="day",
        partition_by="day",
    )
    sandbox.run_well()
    assert sandbox.table("marts/merged").version() == 1_001
    values = sorted(row[1] for row in sandbox.rows("marts/merged"))
    assert values == sorted([0, 10, *range(2, DAYS)])
