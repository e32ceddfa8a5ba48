from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory_assets.core import fingerprint
from factory_assets.core.fingerprint import fingerprint_frame, fingerprint_runs

ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.one_of(st.none(), st.floats(allow_nan=False)), st.one_of(st.none(), st.text())),
    max_size=12,
)


def _frame(rows):
    frame = pd.DataFrame(rows, columns=["id", "x", "t"])
    return frame.astype({"id": "int64", "x": "float64"}).assign(t=frame["t"].astype(object))


def _hash(**columns):
    return fingerprint_frame(pd.DataFrame(columns), list(columns)[:1])


@settings(deadline=None, max_examples=100)
@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rows_and_columns_and_the_index_do_not_matter(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    other = _frame(shuffled)[["t", "x", "id"]].set_axis(range(7, 7 + len(rows)))
    assert fingerprint_frame(_frame(rows), ["id"]) == fingerprint_frame(other, ["id"])


@settings(deadline=None, max_examples=100)
@given(ROWS, ROWS)
def test_other_rows_have_another_hash(one, other):
    def canonical(rows):
        return sorted((key, (x is None, (x or 0.0) + 0.0), (t is None, t or "")) for key, x, t in rows)

    same = fingerprint_frame(_frame(one), ["id"]) == fingerprint_frame(_frame(other), ["id"])
    assert same == (canonical(one) == canonical(other))


@pytest.mark.parametrize(
    "flavours",
    [
        ([1, 2], ["int64", "int32", "uint8", "Int64", "int64[pyarrow]", "float64", "Float32", "float64[pyarrow]"]),
        ([1.5, None], ["float64", "Float64", "double[pyarrow]", object]),
        ([1, None], ["Int64", "float64", "int64[pyarrow]"]),
        ([True, None], ["boolean", "bool[pyarrow]", object]),
        (["a", None, ""], ["str", "string", "string[python]", "string[pyarrow]", "category", object]),
        ([None, None], ["str", "float64", "Int64", object, "boolean", "datetime64[ns]"]),
    ],
    ids=["whole", "float", "whole with null", "boolean", "text", "all null"],
)
def test_the_dtype_that_holds_the_values_does_not_matter(flavours):
    values, dtypes = flavours
    assert len({_hash(x=pd.Series(values, dtype=dtype)) for dtype in dtypes}) == 1


def test_instants_are_equal_in_any_unit_and_zone():
    moments = pd.Series(pd.to_datetime(["2013-07-01T12:00", None]))
    flavours = [moments.astype(f"datetime64[{unit}]") for unit in ("s", "ms", "us", "ns")]
    zoned = moments.dt.tz_localize("UTC")
    flavours += [zoned, zoned.dt.tz_convert("America/New_York"), zoned.astype("timestamp[us, tz=UTC][pyarrow]")]
    flavours.append(pd.Series([datetime(2013, 7, 1, 12, tzinfo=UTC), None], dtype=object))
    assert len({_hash(x=series) for series in flavours}) == 1
    assert _hash(x=zoned) != _hash(x=zoned + pd.Timedelta("1us"))


def test_dates_and_decimals_can_be_hashed():
    assert _hash(x=[date(2013, 7, 1)]) == _hash(x=pd.to_datetime(["2013-07-01"]))
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


def test_minus_zero_and_nan_are_zero_and_null():
    assert _hash(x=[-0.0, 1.0]) == _hash(x=[0.0, 1.0])
    assert _hash(x=pd.Series([np.nan, 1.0])) == _hash(x=pd.Series([None, 1.0], dtype="Float64"))


def test_the_hash_stays_what_it_was():
    frame = pd.DataFrame({"id": [2, 1], "t": ["b", None], "at": pd.to_datetime(["2013-07-01", None], utc=True)})
    assert fingerprint_frame(frame, ["id"]) == "8b47a1c7075ec5bef4a413568e490ab773d19595206318dc0ca6cd453772235e"


def test_an_absent_key_and_an_unknown_kind_are_refused_by_name():
    with pytest.raises(KeyError, match="gone"):
        fingerprint_frame(pd.DataFrame({"x": [1]}), ["gone"])
    for values in ([[1], [2]], [1, "mixed"], [b"bytes"]):
        with pytest.raises(TypeError, match="'x'"):
            _hash(x=pd.Series(values, dtype=object))


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
