"""The SELECT over a pinned snapshot gives what the Delta log says, for every type, path and history."""

import json
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable, Field, Schema, write_deltalake
from deltalake.schema import PrimitiveType

from factory_assets.storage.delta.snapshots import UnreadableTableError, open_table, select_sql

ROOTS = ["plain", "with space", "ha#sh", "qu?ery", "st*ar", "it's", 'quo"te', "é日本", "{brace}", "k=v", "a+b&c"]


def _rows(table: DeltaTable | None, suffix: str = "") -> list[tuple[object, ...]]:
    assert table is not None
    with duckdb.connect() as connection:
        connection.execute("SET timezone = 'UTC'")
        return connection.execute(f"SELECT * FROM ({select_sql(table)}) {suffix}").fetchall()


@pytest.fixture
def every_type() -> pa.Table:
    return pa.table(
        {
            "text": pa.array(["a", None]),
            "long": pa.array([2**62, None], pa.int64()),
            "integer": pa.array([1, None], pa.int32()),
            "short": pa.array([1, None], pa.int16()),
            "byte": pa.array([1, None], pa.int8()),
            "single": pa.array([1.5, None], pa.float32()),
            "double": pa.array([0.1, None], pa.float64()),
            "boolean": pa.array([True, None]),
            "binary": pa.array([b"\x00\xff", None]),
            "day": pa.array([date(2013, 1, 1), None]),
            "instant": pa.array([datetime(2013, 1, 1, 5, tzinfo=UTC), None], pa.timestamp("us", "UTC")),
            "local": pa.array([datetime(2013, 1, 1, 5), None], pa.timestamp("us")),  # noqa: DTZ001
            "exact": pa.array([Decimal("1.50"), None], pa.decimal128(10, 2)),
            "list": pa.array([["x", None], None], pa.list_(pa.string())),
            "struct": pa.array([{"a": 1, "b c": [2]}, None], pa.struct({"a": pa.int32(), "b c": pa.list_(pa.int64())})),
            "map": pa.array([[("k", 1.5)], None], pa.map_(pa.string(), pa.float64())),
        }
    )


def test_no_table_is_none_and_nothing_is_created(tmp_path: Path) -> None:
    assert open_table(str(tmp_path / "missing")) is None
    (tmp_path / "folder").mkdir()
    assert open_table(str(tmp_path / "folder")) is None
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_version_zero_is_a_version(tmp_path: Path) -> None:
    for number in range(3):
        write_deltalake(str(tmp_path), pa.table({"n": [number]}), mode="append")
    assert _rows(open_table(str(tmp_path), version=0)) == [(0,)]
    assert sorted(_rows(open_table(str(tmp_path), version=1))) == [(0,), (1,)]
    assert len(_rows(open_table(str(tmp_path)))) == 3


def test_a_version_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path), pa.table({"n": [1]}))
    with pytest.raises(Exception, match="version"):
        open_table(str(tmp_path), version=7)


def test_a_snapshot_does_not_see_later_commits(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path), pa.table({"n": [1]}))
    pinned = open_table(str(tmp_path))
    write_deltalake(str(tmp_path), pa.table({"n": [2]}), mode="overwrite")
    assert _rows(pinned) == [(1,)]


def test_every_delta_type_comes_back_with_its_type_and_value(tmp_path: Path, every_type: pa.Table) -> None:
    write_deltalake(str(tmp_path), every_type)
    table = open_table(str(tmp_path))
    assert table is not None
    relation = duckdb.connect().sql(select_sql(table))
    assert relation.columns == every_type.column_names
    assert [str(kind) for kind in relation.types] == [
        "VARCHAR", "BIGINT", "INTEGER", "SMALLINT", "TINYINT", "FLOAT", "DOUBLE", "BOOLEAN", "BLOB", "DATE",
        "TIMESTAMP WITH TIME ZONE", "TIMESTAMP", "DECIMAL(10,2)", "VARCHAR[]",
        'STRUCT(a INTEGER, "b c" BIGINT[])', "MAP(VARCHAR, DOUBLE)",
    ]  # fmt: skip
    values = dict(zip(every_type.column_names, relation.fetchall()[0], strict=True))
    assert values["exact"] == Decimal("1.50")
    assert values["struct"] == {"a": 1, "b c": [2]}
    assert values["instant"] == datetime(2013, 1, 1, 5, tzinfo=UTC)
    assert set(relation.fetchall()[1]) == {None}


def test_an_empty_table_gives_typed_zero_rows(tmp_path: Path, every_type: pa.Table) -> None:
    write_deltalake(str(tmp_path), every_type)
    full = duckdb.connect().sql(select_sql(DeltaTable(str(tmp_path)))).types
    DeltaTable(str(tmp_path)).delete()
    table = open_table(str(tmp_path))
    assert table is not None
    assert table.file_uris() == []
    relation = duckdb.connect().sql(select_sql(table))
    assert (relation.types, relation.fetchall()) == (full, [])


@pytest.mark.parametrize("name", ROOTS)
def test_any_folder_name_can_be_read(name: str, tmp_path: Path) -> None:
    folder = str(tmp_path / name / "k=9" / "t")
    write_deltalake(folder, pa.table({"k": ["a b", "c"], "n": [1, 2]}), partition_by=["k"])
    assert sorted(_rows(open_table(folder))) == [("a b", 1), ("c", 2)]


def test_odd_partition_values_come_back_unchanged(tmp_path: Path) -> None:
    values = ["it's", "a\\'", "a\nb", None, "a b/c%41?#é", "A=1", " x ", '"', "..", "日本", "a:b", "*", "[z]", "{a}", "%20",
              "a+b", "null", "k=1"]  # fmt: skip
    write_deltalake(str(tmp_path), pa.table({"k k": values, "n": range(len(values))}), partition_by=["k k"])
    assert [k for k, _ in _rows(open_table(str(tmp_path)), "ORDER BY n")] == values


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([date(2013, 1, 1), None], pa.date32()),
        ([datetime(2013, 1, 1, 5, 0, 0, 123456, tzinfo=UTC), None], pa.timestamp("us", "UTC")),
        ([datetime(2013, 1, 1, 5), None], pa.timestamp("us")),  # noqa: DTZ001
        ([-7, None], pa.int64()),
        ([7, None], pa.int8()),
        ([0.1, None], pa.float64()),
        ([True, False, None], pa.bool_()),
        ([Decimal("1.50"), None], pa.decimal128(10, 2)),
    ],
)
def test_partition_columns_of_every_type_are_typed(values: list[object], kind: pa.DataType, tmp_path: Path) -> None:
    table = pa.table({"k": pa.array(values, kind), "n": range(len(values))})
    write_deltalake(str(tmp_path), table, partition_by=["k"])
    sql = select_sql(DeltaTable(str(tmp_path)))
    with duckdb.connect() as connection:
        connection.execute("SET timezone = 'Asia/Kolkata'")
        assert [row[0] for row in connection.execute(f"{sql} ORDER BY n").fetchall()] == values


def test_a_column_added_later_is_null_in_older_files(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path), pa.table({"n": [1]}))
    write_deltalake(str(tmp_path), pa.table({"n": [2], "extra": ["x"]}), mode="append", schema_mode="merge")
    assert sorted(_rows(open_table(str(tmp_path)))) == [(1, None), (2, "x")]


def test_a_column_that_no_file_has_yet_is_null(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path), pa.table({"n": [1]}))
    DeltaTable(str(tmp_path)).alter.add_columns(Field("extra", PrimitiveType("double"), nullable=True))
    assert _rows(open_table(str(tmp_path))) == [(1, None)]


@pytest.mark.parametrize("condition", ["k = 1", "k IN (1, 7)", "k < 2", "k + 1 = 2"])
def test_a_filter_on_a_partition_column_reads_only_its_files(condition: str, tmp_path: Path) -> None:
    write_deltalake(str(tmp_path), pa.table({"k": [1, 2, 3], "n": [1, 2, 3]}), partition_by=["k"])
    sql = f"SELECT sum(n) FROM ({select_sql(DeltaTable(str(tmp_path)))}) WHERE {condition}"
    assert duckdb.execute(sql).fetchall() == [(1,)]
    assert "Total Files Read: 1 " in duckdb.execute(f"EXPLAIN ANALYZE {sql}").fetchall()[0][1]


def test_the_planner_knows_how_many_rows_there_are(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path), pa.table({"n": range(54_321)}))
    plan = duckdb.execute(f"EXPLAIN {select_sql(DeltaTable(str(tmp_path)))}").fetchall()[0][1]
    assert "54,321 rows" in plan


def _write_days(folder: Path, days: int) -> None:
    """One file a day, of two rows but for the first, which has a thousand."""
    day = pa.array([0] * 998 + sorted([*range(days)] * 2), pa.int32())
    write_deltalake(str(folder), pa.table({"day": day, "n": range(len(day))}), partition_by=["day"])


def test_of_many_files_with_all_columns_one_footer_is_read_and_the_number_of_rows_is_near(tmp_path: Path) -> None:
    _write_days(tmp_path, 100)
    sql = select_sql(DeltaTable(str(tmp_path)))
    first = re.search(r"day=(\d+)/", sql)
    assert first is not None
    for file in tmp_path.glob("day=*/*"):
        if file.parent.name != f"day={first[1]}":
            file.write_bytes(b"")
    # The others are empty, so whoever looked for their footers would fail.
    plan = duckdb.execute(f"EXPLAIN {sql}").fetchall()[0][1]
    (rows,) = {int(found.replace(",", "")) for found in re.findall(r"~([\d,]+) rows", plan)}
    assert rows == 200


def test_many_files_of_which_some_lack_a_column_are_read_by_name(tmp_path: Path) -> None:
    _write_days(tmp_path, 100)
    more = pa.table({"day": pa.array([7, 100], pa.int32()), "n": [-1, -2], "extra": ["x", None]})
    write_deltalake(str(tmp_path), more, mode="append", schema_mode="merge", partition_by=["day"])
    table = f"({select_sql(DeltaTable(str(tmp_path)))})"
    assert duckdb.execute(f"SELECT count(*), sum(n), count(extra) FROM {table}").fetchall() == [
        (1_200, sum(range(1_198)) - 3, 1)
    ]
    new = duckdb.execute(f"SELECT day, n, extra FROM {table} WHERE n < 0 ORDER BY day").fetchall()
    assert new == [(7, -1, "x"), (100, -2, None)]


def test_members_of_a_struct_that_came_later_are_null_in_the_older_of_many_files(tmp_path: Path) -> None:
    days = pa.array(range(40), pa.int32())
    write_deltalake(str(tmp_path), pa.table({"day": days, "s": [{"a": n} for n in range(40)]}), partition_by=["day"])
    more = pa.table({"day": pa.array([40], pa.int32()), "s": [{"a": 40, "b": 1}]})
    write_deltalake(str(tmp_path), more, mode="append", schema_mode="merge", partition_by=["day"])
    sql = f"SELECT s FROM ({select_sql(DeltaTable(str(tmp_path)))}) WHERE day IN (0, 40) ORDER BY day"
    assert duckdb.execute(sql).fetchall() == [({"a": 0, "b": None},), ({"a": 40, "b": 1},)]


def test_building_the_select_reads_no_file(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path), pa.table({"k": [1, 2], "n": [1, 2]}), partition_by=["k"])
    table = open_table(str(tmp_path))
    assert table is not None
    expected = select_sql(table)
    for file in tmp_path.glob("k=*/*"):
        file.unlink()
    assert select_sql(table) == expected


def _with_protocol(folder: Path, reader_features: list[str]) -> None:
    write_deltalake(str(folder), pa.table({"n": [1]}))
    protocol = {
        "protocol": {
            "minReaderVersion": 3,
            "minWriterVersion": 7,
            "readerFeatures": reader_features,
            "writerFeatures": reader_features,
        }
    }
    (folder / "_delta_log" / f"{1:020}.json").write_text(json.dumps(protocol) + "\n")


def test_deletion_vectors_are_refused_by_name(tmp_path: Path) -> None:
    _with_protocol(tmp_path, ["timestampNtz", "deletionVectors"])
    with pytest.raises(UnreadableTableError, match="deletionVectors") as caught:
        _rows(open_table(str(tmp_path)))
    assert caught.value.feature == "deletionVectors"
    assert str(tmp_path) in caught.value.table


def test_column_mapping_without_a_feature_list_is_refused(tmp_path: Path) -> None:
    schema = Schema([Field("n", PrimitiveType("long"))])
    DeltaTable.create(str(tmp_path), schema)
    log = tmp_path / "_delta_log" / f"{0:020}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        if "protocol" in action:
            action["protocol"] = {"minReaderVersion": 2, "minWriterVersion": 5}
        if "metaData" in action:
            action["metaData"]["configuration"] = {"delta.columnMapping.mode": "name"}
            field = {"delta.columnMapping.id": 1, "delta.columnMapping.physicalName": "col-1"}
            parsed = json.loads(action["metaData"]["schemaString"])
            parsed["fields"][0]["metadata"] = field
            action["metaData"]["schemaString"] = json.dumps(parsed)
    log.write_text("\n".join(json.dumps(action) for action in actions) + "\n")
    with pytest.raises(UnreadableTableError, match="columnMapping"):
        _rows(open_table(str(tmp_path)))


def test_timestamps_without_zone_are_readable(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path), pa.table({"t": pa.array([datetime(2013, 1, 1)], pa.timestamp("us"))}))  # noqa: DTZ001
    assert DeltaTable(str(tmp_path)).protocol().reader_features == ["timestampNtz"]
    assert _rows(open_table(str(tmp_path))) == [(datetime(2013, 1, 1),)]  # noqa: DTZ001
