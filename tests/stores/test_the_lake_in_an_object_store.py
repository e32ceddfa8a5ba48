"""What the lake promises on a local disk it keeps on S3 and on Azure."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from factory_assets.contracts.maintenance import MaintenanceSpec
from factory_assets.resources import build_resources
from factory_assets.settings import FactorySettings
from factory_assets.storage.delta.lake import Lake, TableSpec
from factory_assets.storage.delta.maintenance import maintain_table
from factory_assets.storage.delta.object_stores import Place, parse_place, storage_options
from tests.stores.conftest import Store

SPEC = TableSpec("ops/things", pa.schema([("key", pa.string()), ("value", pa.int64())]), keys=("key",), sort_by=("key",))
ODD = ["it's", "a b/c%41?#é", "..", "日本", "a:b", "*", "[z]", "{a}", "%20", "a+b", "null", "k=1", 'quo"te', None]


@pytest.fixture
def lake(root: str) -> Lake:
    return Lake(root)


def table(**values: int) -> pa.Table:
    return pa.table({"key": list(values), "value": pa.array(values.values(), pa.int64())})


def contents(lake: Lake) -> dict[str, int]:
    return {row["key"]: row["value"] for row in lake.rows(SPEC)}


def test_tables_are_written_pinned_read_and_listed(lake: Lake) -> None:
    assert lake.files.table_names() == []
    assert lake.find(SPEC.name) is None
    lake.replace(SPEC, table(a=1, b=1))
    pinned = lake.pin(SPEC.name)
    lake.upsert(SPEC, table(b=2, c=2))
    assert contents(lake) == {"a": 1, "b": 2, "c": 2}
    assert lake.query("select sum(value) as s from t", t=pinned).to_pylist() == [{"s": 2}]
    assert pinned.read(["value"], pc.field("key") == "b").to_pylist() == [{"value": 1}]
    assert lake.append_once(SPEC, table(d=4), "app", 1)
    assert not lake.append_once(SPEC, table(e=5), "app", 1)
    assert lake.files.table_names() == ["ops/things"]


def test_odd_partition_values_come_back_and_skip_files(lake: Lake) -> None:
    rows = pa.table(
        {"k": pa.array(ODD, pa.string()), "day": [date(2013, 1, 1)] * len(ODD), "n": pa.array(range(len(ODD)), pa.int64())}
    )
    lake.replace(TableSpec("marts/odd", rows.schema, ("n",), partition_by=("k", "day")), rows)
    pinned = lake.pin("marts/odd")
    assert lake.query("select k, day, n from t order by n", t=pinned).to_pylist() == rows.to_pylist()
    assert lake.query("select n from t where k = '[z]'", t=pinned).to_pylist() == [{"n": 6}]
    assert pinned.read(["n"], pc.field("k") == "[z]").to_pylist() == [{"n": 6}]


def test_writers_that_meet_lose_nothing(lake: Lake) -> None:
    lake.upsert(SPEC, table(start=0))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: lake.upsert(SPEC, table(**{f"k{n}": n})), range(6)))
    assert contents(lake) == {"start": 0, **{f"k{n}": n for n in range(6)}}


def test_many_threads_read_at_once(lake: Lake) -> None:
    lake.replace(SPEC, pa.table({"key": [f"{n}" for n in range(1000)], "value": pa.array(range(1000), pa.int64())}))
    pinned = lake.pin(SPEC.name)
    with ThreadPoolExecutor(4) as pool:
        sums = list(pool.map(lambda _: lake.query("select sum(value) as s from t", t=pinned)["s"][0].as_py(), range(16)))
    assert set(sums) == {499_500}


def test_care_keeps_what_is_needed_and_frees_the_rest(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(9):
        lake.upsert(SPEC, table(**{f"k{number}": number}))
    before = contents(lake)
    needed = lake.query("select count(*) as n from t", t=lake.pin(SPEC.name, 2)).to_pylist()
    # The stores' own clock stamps files, so nothing can be made to look old here.
    spec = MaintenanceSpec(compact_from=2).model_copy(update={"retention": MaintenanceSpec().retention * 0})
    done = maintain_table(lake, SPEC.name, spec, frozenset({2}))
    assert done.problem is None
    assert done.files_freed > 0
    assert done.bytes_freed > done.files_freed * 300
    assert contents(lake) == before
    assert lake.query("select count(*) as n from t", t=lake.pin(SPEC.name, 2)).to_pylist() == needed


def test_no_setting_and_no_resource_holds_a_secret(store: Store, root: str, tmp_path: Path) -> None:
    settings = FactorySettings(lake_uri=root, data_dir=tmp_path)
    held: Any = [settings, Lake(root), *build_resources(settings).values()]
    assert Lake(root).storage_options
    assert store.secret in str(storage_options(root))
    assert [thing for thing in held if store.secret in repr(thing) + str(getattr(thing, "__dict__", ""))] == []


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("/data/lake", Place("", "/data/lake")),
        ("file:///data/lake", Place("", "/data/lake")),
        ("s3://bucket/a/b c", Place("s3", "bucket/a/b c")),
        ("s3://bucket", Place("s3", "bucket")),
        ("s3://bucket/what?#", Place("s3", "bucket/what?#")),
        ("az://container/lake/", Place("az", "container/lake")),
        ("abfss://container@account.dfs.core.windows.net/lake", Place("abfss", "container/lake")),
        ("gs://bucket/lake", Place("gs", "bucket/lake")),
    ],
)
def test_an_address_is_a_scheme_and_a_path(uri: str, place: Place) -> None:
    assert parse_place(uri) == place


def test_only_the_stores_own_variables_are_handed_on() -> None:
    environment = {"AWS_REGION": "r", "AZURE_STORAGE_ACCOUNT_NAME": "a", "GOOGLE_SERVICE_ACCOUNT": "g", "HOME": "h"}
    assert set(storage_options("s3://b/l", environment)) == {"AWS_REGION"}
    assert set(storage_options("az://c/l", environment)) == {"AZURE_STORAGE_ACCOUNT_NAME"}
    assert set(storage_options("gs://b/l", environment)) == {"GOOGLE_SERVICE_ACCOUNT"}
    assert storage_options("/data/lake", environment) == {}
