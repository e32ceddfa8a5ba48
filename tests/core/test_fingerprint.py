from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory_assets.core import fingerprint
from factory_assets.core.fingerprint import fingerprint_runs


def _hash(**columns):
    table = pa.table(columns)
    return fingerprint_runs(table, [(0, table.num_rows)])[0]


@pytest.mark.parametrize(
    ("values", "types"),
    [
        ([1, 2], [pa.int64(), pa.int32(), pa.uint8(), pa.float64(), pa.float32()]),
        ([1, None], [pa.int64(), pa.float64()]),
        ([1.5, None], [pa.float64(), pa.float32()]),
        (["a", None, ""], [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())]),
        ([None, None], [pa.string(), pa.float64(), pa.int64(), pa.bool_(), pa.timestamp("ns"), pa.null()]),
    ],
    ids=["whole", "whole with null", "float", "text", "all null"],
)
def test_the_type_that_holds_the_values_does_not_matter(values, types):
    assert len({_hash(x=pa.array(values, kind)) for kind in types}) == 1


def test_instants_are_equal_in_any_unit_and_zone():
    moments = [datetime(2013, 7, 1, 12, tzinfo=UTC), None]
    types = [pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC", "America/New_York")]
    naive = [moment and moment.replace(tzinfo=None) for moment in moments]
    assert len({_hash(x=pa.array(moments if kind.tz else naive, kind)) for kind in types}) == 1
    later = datetime(2013, 7, 1, 12, 0, 0, 1, tzinfo=UTC)
    assert _hash(x=pa.array([later])) != _hash(x=pa.array(moments[:1]))


def test_dates_and_decimals_can_be_hashed():
    assert _hash(x=[date(2013, 7, 1)]) == _hash(x=[datetime(2013, 7, 1, tzinfo=UTC)])
    assert _hash(x=[Decimal("1.5")]) == _hash(x=[1.5])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"x": ["a", ""]}, {"x": ["a", None]}),
        ({"x": [0.0, 1.0]}, {"x": [None, 1.0]}),
        ({"x": ["ab", "c"]}, {"x": ["a", "bc"]}),
        ({"x": [1]}, {"y": [1]}),
        ({"x": ["1"]}, {"x": [1]}),
        ({"x": [True]}, {"x": [1]}),
        ({"x": [1, 2]}, {"x": [1, 2, 2]}),
        ({"x": [1], "y": [2]}, {"x": [2], "y": [1]}),
        ({"x": [2**60]}, {"x": [2**60 + 1]}),
        ({"x": [1.0]}, {"x": [np.nextafter(1.0, 2.0)]}),
    ],
)
def test_different_content_has_a_different_hash(one, other):
    assert _hash(**one) != _hash(**other)


def test_minus_zero_is_zero():
    assert _hash(x=[-0.0, 1.0]) == _hash(x=[0.0, 1.0])


def test_the_hash_stays_what_it_was():
    at = pa.array([datetime(2013, 7, 1, tzinfo=UTC), None], pa.timestamp("ns", "UTC"))
    assert _hash(id=[2, 1], t=["b", None], at=at) == "dc8b24352067a1a9efb4461fff246e8baa9c714942107da8171061febc6ddc17"


def test_a_column_of_an_unknown_kind_is_refused_by_name():
    for values in ([[1], [2]], [b"bytes"]):
        with pytest.raises(TypeError, match="'x'"):
            _hash(x=values)


RUN_VALUES = st.one_of(st.none(), st.text(max_size=3))
RUN_ROWS = st.lists(st.tuples(st.one_of(st.none(), st.integers(-3, 3)), RUN_VALUES, st.booleans()), max_size=8)


def _table(rows):
    types = (("n", pa.int64()), ("t", pa.string()), ("b", pa.bool_()))
    return pa.table({name: pa.array([row[place] for row in rows], kind) for place, (name, kind) in enumerate(types)})


@given(RUN_ROWS, RUN_ROWS, RUN_ROWS)
def test_a_run_of_rows_has_the_hash_of_its_content_wherever_it_lies(before, rows, after):
    """All-null columns have no type to tell, so each table has a row with values."""
    anchor = [(1, "x", True)]
    alone = fingerprint_runs(_table(rows + anchor), [(0, len(rows))])
    among = fingerprint_runs(_table(before + rows + anchor + after), [(len(before), len(rows))])
    assert alone == among


@given(RUN_ROWS, RUN_ROWS)
def test_runs_of_different_rows_have_different_hashes(one, other):
    anchor = [(1, "x", True)]
    table = _table(one + other + anchor)
    first, second = fingerprint_runs(table, [(0, len(one)), (len(one), len(other))])
    assert (first == second) == (one == other)


def test_runs_do_not_care_for_the_order_of_columns_or_for_whole_numbers_as_floats():
    one = pa.table({"a": [1, 2], "b": ["x", None]})
    other = pa.table({"b": ["x", None], "a": [1.0, 2.0]})
    assert fingerprint_runs(one, [(0, 2)]) == fingerprint_runs(other, [(0, 2)])


@pytest.mark.parametrize("rows_a_slice", [1, 3, 1000])
def test_runs_have_the_same_hashes_in_slices_of_any_size(rows_a_slice, monkeypatch):
    table = pa.table(
        {
            "whole": pa.array([None, 2**60, 3, 4, 5, 6, 7, 8, None, 0]),
            "text": pa.array(["a", None, "", "bb", "c", "d", None, "e", "f", "g"]).dictionary_encode(),
            "rare": pa.array([None] * 9 + [-0.0]),
            "never": pa.nulls(10),
        }
    )
    runs = [(0, 2), (2, 1), (3, 3), (6, 4), (1, 5), (9, 1)]
    expected = fingerprint_runs(table, runs)
    monkeypatch.setattr(fingerprint, "_SLICE_ROWS", rows_a_slice)
    assert fingerprint_runs(table, runs) == expected
    assert len(set(expected)) == len(runs)
    assert [fingerprint_runs(table, [run])[0] for run in runs] == expected
