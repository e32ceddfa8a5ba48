from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from factory_assets.storage.delta.lake import Lake, TableMissingError, TableSpec

SPEC = TableSpec("ops/things", pa.schema([("key", pa.string()), ("value", pa.int64())]), keys=("key",), sort_by=("key",))


def table(**values: int) -> pa.Table:
    return pa.table({"key": list(values), "value": pa.array(values.values(), pa.int64())})


def contents(lake: Lake) -> dict[str, int]:
    return {row["key"]: row["value"] for row in lake.rows(SPEC)}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake with a space"))


def test_a_pinned_table_does_not_see_later_writes(lake: Lake) -> None:
    lake.replace(SPEC, table(a=1))
    pinned = lake.pin(SPEC.name)
    lake.replace(SPEC, table(a=2))
    assert lake.query("select value from t", t=pinned).to_pylist() == [{"value": 1}]
    assert lake.query("select value from t", t=lake.pin(SPEC.name, 0)).to_pylist() == [{"value": 1}]
    assert contents(lake) == {"a": 2}


def test_an_upsert_replaces_equal_keys_and_keeps_the_rest(lake: Lake) -> None:
    lake.upsert(SPEC, table(a=1, b=1))
    lake.upsert(SPEC, table(b=2, c=2))
    assert contents(lake) == {"a": 1, "b": 2, "c": 2}


def test_a_missing_table_is_named_with_the_remedy(lake: Lake) -> None:
    with pytest.raises(TableMissingError, match=r"ops/things.*materialize its asset first"):
        lake.pin(SPEC.name)
    assert lake.find(SPEC.name) is None
    assert lake.rows(SPEC) == []


def test_the_note_is_that_of_the_pinned_version(lake: Lake) -> None:
    for text in ("first", "second", "third"):
        lake.replace(SPEC, table(a=1), note={"factory.said": text})
    said = [lake.read_note(lake.pin(SPEC.name, version))["factory.said"] for version in range(3)]
    assert said == ["first", "second", "third"]


def test_one_sequence_number_is_given_once_however_many_ask(lake: Lake) -> None:
    assert lake.append_once(SPEC, table(a=1), "app", 1)
    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(lambda n: lake.append_once(SPEC, table(**{f"k{n}": n}), "app", 2), range(4)))
    assert sum(won) == 1
    assert len(contents(lake)) == 2
    assert not lake.append_once(SPEC, table(z=9), "app", 2)


def test_writers_that_meet_lose_nothing(lake: Lake) -> None:
    lake.upsert(SPEC, table(start=0))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: lake.upsert(SPEC, table(**{f"k{n}": n})), range(8)))
    assert contents(lake) == {"start": 0, **{f"k{n}": n for n in range(8)}}


def test_writers_that_meet_on_a_new_table_lose_nothing(lake: Lake) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: lake.upsert(SPEC, table(**{f"k{n}": n})), range(4)))
    assert contents(lake) == {f"k{n}": n for n in range(4)}


def test_every_write_tells_the_version_that_it_made(lake: Lake) -> None:
    batches = table(a=3).to_batches
    made = [
        lake.replace(SPEC, table(a=1)),
        lake.replace(SPEC, table(a=2), "key = 'a'"),
        lake.upsert(SPEC, table(a=3, b=3)),
        lake.replace_in_order(SPEC, lambda: iter(batches())),
    ]
    assert made == [0, 1, 2, 3]
    assert lake.pin(SPEC.name).version == 3


def test_records_of_many_commits_are_opened_by_a_checkpoint(lake: Lake) -> None:
    for number in range(22):
        lake.append(SPEC, table(**{f"k{number}": number}))
    assert lake.files.last_checkpoint(SPEC.name) == 19
    assert len(contents(lake)) == 22
    assert lake.pin(SPEC.name, 3).row_count == 4
