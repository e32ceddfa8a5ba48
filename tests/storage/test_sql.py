"""SQL literals mean the same in DuckDB and in delta-rs predicates, whatever the value holds."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from factory_assets.storage.sql import SqlValue, equals_any, literal, quote_identifier

ODD_TEXTS = [
    "", " ", "'", "''", '"', "\\", "\\'", "a' OR seg <> '", "a'; DROP TABLE t; --", "/*", "--", "a\nb", "a\r\nb", "\t",
    "%", "_", "%20", "a/b", "../..", "日本", "🙂", "e\u0301", "é", "NULL", "null", "TRUE", "1e5", "2013-01-01", "$1", "?",
    "{}", "E'x'", "\u202e", "\ufeff", "a\x01b",
]  # fmt: skip

texts = st.one_of(st.sampled_from(ODD_TEXTS), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
instants = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
decimals = st.decimals(-(10**30), 10**30, places=3, allow_nan=False, allow_infinity=False)
columns_of_values = st.one_of(
    st.tuples(st.just(pa.string()), st.lists(texts, min_size=1, max_size=6, unique=True)),
    st.tuples(st.just(pa.int64()), st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=6, unique=True)),
    st.tuples(
        st.just(pa.float64()),
        st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=6, unique=True),
    ),
    st.tuples(st.just(pa.decimal128(38, 3)), st.lists(decimals, min_size=1, max_size=6, unique=True)),
    st.tuples(st.just(pa.date32()), st.lists(st.dates(), min_size=1, max_size=6, unique=True)),
    st.tuples(st.just(pa.timestamp("us", "UTC")), st.lists(instants, min_size=1, max_size=6, unique=True)),
    st.tuples(st.just(pa.bool_()), st.lists(st.booleans(), min_size=1, max_size=2, unique=True)),
)


def _table(values: Sequence[SqlValue], kind: pa.DataType, numbers: Sequence[int]) -> pa.Table:
    return pa.table({"key column": pa.array(values, kind), "n": pa.array(numbers, pa.int64())})


@given(columns_of_values, st.data())
@settings(max_examples=150)
def test_equals_any_finds_exactly_the_named_rows_in_duckdb(
    column: tuple[pa.DataType, list[SqlValue]], data: st.DataObject
) -> None:
    kind, values = column
    values = [*values, None]
    named = data.draw(st.sets(st.integers(0, len(values) - 1)))
    rows = _table(values, kind, range(len(values)))
    with duckdb.connect() as connection:
        connection.execute("SET timezone = 'Asia/Kolkata'")
        connection.register("rows", rows)
        condition = equals_any("key column", [values[i] for i in named])
        found = connection.execute(f"SELECT n FROM rows WHERE {condition}").fetchall()
    assert {n for (n,) in found} == named


@given(columns_of_values, st.data())
@settings(max_examples=40)
def test_overwriting_by_equals_any_replaces_exactly_the_named_rows_of_a_delta_table(
    column: tuple[pa.DataType, list[SqlValue]], data: st.DataObject
) -> None:
    kind, values = column
    values = [*values, None]
    named = sorted(data.draw(st.sets(st.integers(0, len(values) - 1), min_size=1)))
    with TemporaryDirectory() as folder:
        write_deltalake(folder, _table(values, kind, range(len(values))))
        replacement = _table([values[i] for i in named], kind, [100 + i for i in named])
        condition = equals_any("key column", [values[i] for i in named])
        write_deltalake(DeltaTable(folder), replacement, mode="overwrite", predicate=condition)
        numbers = pa.table(DeltaTable(folder).scan()).column("n").to_pylist()
    assert sorted(numbers) == sorted([i for i in range(len(values)) if i not in named] + [100 + i for i in named])


@pytest.mark.parametrize("text", [text for text in ODD_TEXTS if text])
def test_replacing_an_oddly_named_partition_leaves_the_others_alone(text: str, tmp_path: Path) -> None:
    write_deltalake(str(tmp_path), _table([text, "other", None], pa.string(), [0, 1, 2]), partition_by=["key column"])
    replacement = _table([text], pa.string(), [100])
    write_deltalake(DeltaTable(str(tmp_path)), replacement, mode="overwrite", predicate=equals_any("key column", [text]))
    assert sorted(pa.table(DeltaTable(str(tmp_path)).scan()).column("n").to_pylist()) == [1, 2, 100]


@given(texts)
@settings(max_examples=200)
def test_any_text_comes_back_from_duckdb_unchanged(text: str) -> None:
    assert duckdb.execute(f"SELECT {literal(text)}").fetchall() == [(text,)]


@given(texts.filter(bool))
@settings(max_examples=100)
def test_any_text_can_name_a_column(name: str) -> None:
    identifier = quote_identifier(name)
    assert duckdb.execute(f"SELECT {identifier} FROM (SELECT 7 AS {identifier})").fetchall() == [(7,)]


def test_both_zeros_are_one_value_to_both_engines(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path), _table([0.0, -0.0, 1.0], pa.float64(), [0, 1, 2]))
    write_deltalake(
        DeltaTable(str(tmp_path)),
        _table([0.0], pa.float64(), [100]),
        mode="overwrite",
        predicate=equals_any("key column", [0.0]),
    )
    assert sorted(pa.table(DeltaTable(str(tmp_path)).scan()).column("n").to_pylist()) == [2, 100]


def test_no_values_match_no_row() -> None:
    assert equals_any("x", []) == "FALSE"


def test_an_instant_is_the_same_whatever_zone_it_was_given_in() -> None:
    kolkata = timezone(timedelta(hours=5, minutes=30))
    assert literal(datetime(2013, 1, 1, 5, 30, tzinfo=kolkata)) == literal(datetime(2013, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("a\0b", "NUL byte"),
        (float("nan"), "nan"),
        (float("inf"), "infinities"),
        (Decimal("NaN"), "not a finite number"),
        (2**63, "64 bits"),
        (datetime(2013, 1, 1), "no time zone"),  # noqa: DTZ001
    ],
)
def test_values_without_a_safe_literal_are_refused(value: SqlValue, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        literal(value)


def test_types_without_a_literal_are_refused_by_name() -> None:
    with pytest.raises(TypeError, match="bytes"):
        literal(b"x")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_impossible_identifiers_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"identifier|NUL"):
        quote_identifier(name)


def test_dates_and_booleans_are_typed() -> None:
    assert (literal(date(2013, 1, 1)), literal(True), literal(False)) == ("DATE '2013-01-01'", "TRUE", "FALSE")
