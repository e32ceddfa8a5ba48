from datetime import date, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from factory_assets.core.models.features import feature_kinds, numeric_values, prepare_features, table_kinds


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([1, 2]),
        pd.Series([1.5, None]),
        pd.Series([True, False]),
        pd.Series([True, None], dtype="boolean"),
        pd.Series([True, None], dtype=object),
        pd.Series([1, None], dtype="Int64"),
        pd.Series([1, None], dtype="int64[pyarrow]"),
        pd.Series([Decimal("1.5"), None], dtype=object),
        pd.Series([1, 2], dtype="category"),
    ],
    ids=lambda values: str(values.dtype),
)
def test_numbers_and_booleans_of_any_dtype_are_numeric(values):
    assert feature_kinds(pd.DataFrame({"x": values}), ["x"]) == (["x"], [])
    assert prepare_features(pd.DataFrame({"x": values}), ["x"], [])["x"].dtype == np.float64


@pytest.mark.parametrize("dtype", ["str", object, "string", "category", "string[pyarrow]"])
def test_text_of_any_dtype_is_categorical_and_reaches_the_model_alike(dtype):
    frame = pd.DataFrame({"x": pd.Series(["a", None, ""], dtype=dtype)})
    assert feature_kinds(frame, ["x"]) == ([], ["x"])
    expected = pd.DataFrame({"x": pd.Series(["a", None, ""], dtype="str")})
    pd.testing.assert_frame_equal(prepare_features(frame, [], ["x"]), expected)


def test_kinds_keep_the_declared_order():
    frame = pd.DataFrame({"b": [1], "t": ["x"], "a": [1.0], "s": ["y"]})
    assert feature_kinds(frame, ["s", "a", "t", "b"]) == (["a", "b"], ["s", "t"])


@pytest.mark.parametrize(
    "value", [pd.Timestamp("2013-01-01"), date(2013, 1, 1), timedelta(hours=1), ["a list"]], ids=lambda v: str(type(v))
)
def test_a_feature_that_is_neither_number_nor_text_is_refused_by_name(value):
    with pytest.raises(ValueError, match="'odd'"):
        feature_kinds(pd.DataFrame({"odd": pd.Series([value])}), ["odd"])


def test_an_absent_feature_is_refused_with_the_columns_there_are():
    with pytest.raises(ValueError, match=r"\['gone'\].*'here'"):
        feature_kinds(pd.DataFrame({"here": [1]}), ["gone"])
    with pytest.raises(ValueError, match=r"\['gone'\].*'here'"):
        prepare_features(pd.DataFrame({"here": [1]}), ["gone"], [])


def test_infinite_values_become_missing_and_the_input_stays_as_it_was():
    frame = pd.DataFrame({"x": [1.0, np.inf, -np.inf, np.nan]})
    prepared = prepare_features(frame, ["x"], [])
    assert prepared["x"].isna().tolist() == [False, True, True, True]
    assert np.isinf(frame["x"]).sum() == 2


def test_text_in_a_numeric_feature_is_refused_by_name():
    with pytest.raises(ValueError, match="'x' should be numeric"):
        numeric_values(pd.Series(["one"], name="x"))


def test_a_table_is_prepared_as_its_frame_is():
    columns = {
        "x": pa.array([1.0, None, np.inf], pa.float64()),
        "n": pa.array([1, None, 3], pa.int32()),
        "b": pa.array([True, None, False]),
        "d": pa.array([Decimal("0.5"), None, Decimal(2)]),
        "t": pa.array(["a", None, ""]),
        "c": pa.array(["u", "v", None]).dictionary_encode(),
        "empty": pa.nulls(3, pa.float32()),
    }
    table = pa.concat_tables([pa.table(columns).slice(0, 1), pa.table(columns).slice(1)])
    numeric, categorical = table_kinds(table, list(columns))
    assert (numeric, categorical) == (["x", "n", "b", "d", "empty"], ["t", "c"])
    expected = prepare_features(table.to_pandas(), numeric, categorical)
    pd.testing.assert_frame_equal(prepare_features(table, numeric, categorical), expected)
    with pytest.raises(ValueError, match=r"\['gone'\].*'x'"):
        prepare_features(table, ["gone"], [])
    with pytest.raises(ValueError, match="'t' should be numeric"):
        prepare_features(table, ["t"], [])


def test_the_numeric_block_has_one_memory_order_whatever_came_in():
    rows_first = np.arange(12.0).reshape(4, 3)
    frames = [pd.DataFrame(np.asarray(rows_first, order=order), columns=list("abc")) for order in ("C", "F")]
    frames.append(pd.DataFrame({name: rows_first[:, i].copy() for i, name in enumerate("abc")}))
    blocks = [prepare_features(frame, ["a", "b", "c"], []).to_numpy() for frame in frames]
    assert {(block.flags.c_contiguous, block.tobytes("A")) for block in blocks} == {
        (blocks[0].flags.c_contiguous, blocks[0].tobytes("A"))
    }


def test_no_rows_and_an_index_are_kept():
    empty = prepare_features(pd.DataFrame({"x": [], "t": []}), ["x"], ["t"])
    assert empty.shape == (0, 2)
    assert prepare_features(pd.DataFrame({"x": [1, 2]}, index=[7, 9]), ["x"], []).index.tolist() == [7, 9]
