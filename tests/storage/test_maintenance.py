"""A round of care changes files, never rows, and leaves every version readable that somebody needs."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory_assets.contracts.maintenance import MaintenanceSpec, TableCare
from factory_assets.storage.delta import maintenance
from factory_assets.storage.delta.lake import Lake, TableSpec
from factory_assets.storage.delta.maintenance import maintain_table
from tests.aged_tables import age_table

NAME = "marts/t"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def write(lake: Lake, *numbers: int, mode: str = "append", by: list[str] | None = None) -> None:
    rows = pa.table({"n": pa.array(numbers, pa.int64()), "k": pa.array([f"it's {n % 3}" for n in numbers], pa.string())})
    write_deltalake(lake.uri(NAME), rows, mode=mode, partition_by=by)


def contents(lake: Lake, version: int | None = None) -> list[Any]:
    return lake.query("select * from t order by all", t=lake.pin(NAME, version)).to_pylist()


def care(lake: Lake, needed: frozenset[int] = frozenset(), **settings: Any) -> TableCare:
    return maintain_table(lake, NAME, MaintenanceSpec(**settings), needed)


def data_files(lake: Lake) -> int:
    return len(list(Path(lake.uri(NAME)).rglob("*.parquet"))) - len(list(Path(lake.uri(NAME)).rglob("*.checkpoint.parquet")))


def test_many_small_files_become_one_and_the_old_ones_wait_for_the_retention(lake: Lake) -> None:
    for number in range(12):
        write(lake, number)
    before = contents(lake)
    first = care(lake)
    assert (first.problem, first.rows, first.files_before, first.files_after, first.files_freed) == (None, 12, 12, 1, 0)
    assert contents(lake) == before
    assert data_files(lake) == 13
    age_table_of_lake(lake)
    second = care(lake)
    assert (second.files_freed, data_files(lake)) == (12, 1)
    assert second.bytes_freed > 12 * 300
    assert contents(lake) == before


def age_table_of_lake(lake: Lake, days: float = 8) -> None:
    """Without its checkpoint, from which tombstones would be read again."""
    log = Path(lake.uri(NAME)) / "_delta_log"
    for file in [*log.glob("*.checkpoint.parquet"), *log.glob("_last_checkpoint")]:
        file.unlink()
    age_table(Path(lake.uri(NAME)), days)


def test_a_second_round_finds_nothing_to_do_and_commits_nothing(lake: Lake) -> None:
    for number in range(12):
        write(lake, number)
    care(lake)
    again = care(lake)
    assert again.version_before == again.version_after
    assert again.files_freed == 0


def test_versions_that_are_needed_stay_readable_and_the_others_go(lake: Lake) -> None:
    for number in range(6):
        write(lake, number, mode="overwrite")
    age_table_of_lake(lake)
    done = care(lake, frozenset({1}), keep={"marts/*": (3,)})
    assert done.kept_versions == (1, 3)
    assert [contents(lake, version)[0]["n"] for version in (1, 3, 5)] == [1, 3, 5]
    assert (done.files_freed, data_files(lake)) == (3, 3)
    with pytest.raises(Exception, match="No files found"):
        contents(lake, 2)


def test_a_version_that_is_needed_outlives_the_retention_of_the_log(lake: Lake) -> None:
    """By default delta-rs drops log entries of more than 30 days when it writes a checkpoint, and versions with them."""
    write(lake, 0, mode="overwrite")
    care(lake, frozenset({0}))
    for number in range(1, 5):
        write(lake, number, mode="overwrite")
    age_table_of_lake(lake, days=400)
    for number in range(5, 120):
        write(lake, number, mode="overwrite")
    care(lake, frozenset({0}))
    assert list(Path(lake.uri(NAME)).glob("_delta_log/*.checkpoint.parquet"))
    assert contents(lake, 0) == [{"n": 0, "k": "it's 0"}]


def test_the_log_of_a_table_with_features_is_kept_only_if_it_was_made_so(lake: Lake) -> None:
    """delta-rs 1.6 would add `variantType` to the features, and with it lose the other readers."""
    local = pa.table({"n": [1], "at": pa.array([0], pa.timestamp("us"))})
    write_deltalake(lake.uri(NAME), local)
    assert care(lake).problem is None
    said = care(lake, frozenset({0})).problem
    assert said is not None
    assert "versions 0 are needed" in said
    assert "enableExpiredLogCleanup" in said
    lake.replace(TableSpec("marts/own", local.schema, ("n",)), local)
    own = maintain_table(lake, "marts/own", MaintenanceSpec(), frozenset({0}))
    assert (own.problem, own.version_after) == (None, 0)
    assert lake.pin("marts/own").handle.protocol().reader_features == ["timestampNtz"]


def test_the_retention_decides_what_is_old(lake: Lake) -> None:
    for number in range(3):
        write(lake, number, mode="overwrite")
    age_table_of_lake(lake, days=3)
    assert care(lake, retention="7d").files_freed == 0
    assert care(lake, retention="2d").files_freed == 2


def test_what_a_killed_writer_left_behind_goes_too(lake: Lake) -> None:
    write(lake, 1)
    orphan = Path(lake.uri(NAME)) / "part-00000-left-behind.parquet"
    orphan.write_bytes(b"x" * 1000)
    assert care(lake).files_freed == 0
    age_table_of_lake(lake)
    done = care(lake)
    assert (done.files_freed, done.bytes_freed, orphan.exists()) == (1, 1000, False)


def test_a_reader_that_pinned_before_the_round_reads_on(lake: Lake) -> None:
    for number in range(12):
        write(lake, number)
    pinned = lake.pin(NAME)
    before = contents(lake)
    care(lake)
    assert lake.query("select * from t order by all", t=pinned).to_pylist() == before


def test_partitions_are_compacted_each_by_itself(lake: Lake) -> None:
    for number in range(27):
        write(lake, number, by=["k"])
    before = contents(lake)
    assert care(lake, compact_from=10).files_after == 27
    done = care(lake, compact_from=9)
    assert (done.files_after, contents(lake)) == (3, before)


def test_a_target_size_is_kept_to(lake: Lake) -> None:
    for start in range(0, 600_000, 60_000):
        write(lake, *(number * 7_919 % 10_000_019 for number in range(start, start + 60_000)))
    assert 2 <= care(lake, target_file_size_mb=1).files_after < 10
    write(lake, 1)
    assert care(lake, target_file_size_mb=128, compact_from=2).files_after == 1


def test_z_order_clusters_rows_once_for_each_change(lake: Lake) -> None:
    for start in range(4):
        write(lake, *range(start, 4_000, 4))
    first = care(lake, z_order={"marts/t": ("n",)})
    assert (first.files_after, first.version_after > first.version_before) == (1, True)
    rows = lake.query("select n from t", t=lake.pin(NAME)).column("n").to_pylist()
    assert rows == sorted(rows)
    again = care(lake, z_order={"marts/t": ("n",)})
    assert again.version_after == again.version_before
    write(lake, 17)
    assert care(lake, z_order={"marts/t": ("n",)}).files_after == 1


def test_a_checkpoint_is_written_every_ten_commits(lake: Lake) -> None:
    for number in range(4):
        write(lake, number, mode="overwrite")
    care(lake)
    assert lake.files.last_checkpoint(NAME) is None
    for number in range(8):
        write(lake, number, mode="overwrite")
    care(lake)
    assert lake.files.last_checkpoint(NAME) == lake.pin(NAME).version


def test_a_table_that_cannot_be_cared_for_is_named_and_left_as_it_is(lake: Lake) -> None:
    for number in range(12):
        write(lake, number)
    before = lake.pin(NAME).version
    done = care(lake, z_order={"marts/t": ("no_such_column",)})
    assert done.problem is not None
    assert "no_such_column" in done.problem
    assert "list it under `exclude`" in done.problem
    assert (lake.pin(NAME).version - before, done.files_after) == (1, 12)


def test_a_writer_that_always_comes_in_between_is_given_way_to(lake: Lake) -> None:
    write(lake, 1)
    with patch.object(maintenance, "_put_together", side_effect=CommitFailedError("somebody else")):
        done = care(lake)
    assert done.problem is not None
    assert "left to the next round" in done.problem


def test_care_and_writers_that_meet_lose_nothing(lake: Lake) -> None:
    spec = TableSpec(NAME, pa.schema([("key", pa.string()), ("value", pa.int64())]), keys=("key",))
    for number in range(12):
        lake.upsert(spec, pa.table({"key": [f"k{number}"], "value": [number]}))

    def act(number: int) -> object:
        if number % 4 == 0:
            return care(lake, compact_from=2, retention="1h").problem
        return lake.upsert(spec, pa.table({"key": [f"n{number}"], "value": [number]}))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(act, range(12)))
    expected = {f"k{n}": n for n in range(12)} | {f"n{n}": n for n in range(12) if n % 4}
    assert {row["key"]: row["value"] for row in contents(lake)} == expected


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(st.lists(st.integers(-5, 5), max_size=4), min_size=1, max_size=6),
    overwrite=st.sets(st.integers(0, 5)),
    by_partition=st.booleans(),
    needed=st.sets(st.integers(0, 5)),
    retention=st.sampled_from(["1h", "7d"]),
)
def test_rows_and_needed_versions_are_the_same_before_and_after(
    batches: list[list[int]],
    overwrite: set[int],
    by_partition: bool,
    needed: set[int],
    retention: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    for number, batch in enumerate(batches):
        mode = "overwrite" if number in overwrite else "append"
        write(lake, *batch, mode=mode, by=["k"] if by_partition else None)
    age_table_of_lake(lake, days=1)
    wanted = {version for version in needed if version < len(batches)} | {len(batches) - 1}
    before = {version: contents(lake, version) for version in wanted}
    done = care(lake, frozenset(needed), compact_from=2, retention=retention)
    assert done.problem is None
    assert {version: contents(lake, version) for version in wanted} == before
    assert contents(lake) == before[len(batches) - 1]
    assert done.rows == len(before[len(batches) - 1])
    assert DeltaTable(lake.uri(NAME)).version() == done.version_after
