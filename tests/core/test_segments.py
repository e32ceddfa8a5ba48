import dagster as dg
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory_assets.contracts.segments import ALL
from factory_assets.core.segments import lay_out, segment_key, segment_keys, segment_values

ODD = [
    "UA",
    "a/b",
    "it's",
    'say "no"',
    "",
    None,
    "~",
    "%null",
    "all",
    "...",
    "a...b",
    "1.5",
    "Zürich",
    "日本",
    " x ",
    "a\nb",
]
VALUES = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=6), st.sampled_from(ODD))


@given(st.lists(VALUES, max_size=4))
def test_a_key_gives_back_the_values_it_was_made_of(values):
    assert segment_values(segment_key(values)) == tuple(values)


@given(st.lists(VALUES, max_size=3), st.lists(VALUES, max_size=3))
def test_different_values_have_different_keys_also_across_levels(one, other):
    assert (segment_key(one) == segment_key(other)) == (one == other)


@given(st.lists(VALUES, min_size=1, max_size=4))
def test_a_key_is_fit_for_dagster_for_mlflow_and_for_a_list_of_words(values):
    key = segment_key(values)
    dg.DynamicPartitionsDefinition(name="x")
    dg.StaticPartitionsDefinition([key])  # raises on what no partition key may hold
    assert not set(key) & set("/:'\"`\\,;*?[]{}()<>|&$!#=+ \t\n\r\0")
    assert key == key.strip()


def test_a_key_is_readable():
    assert segment_key(["UA", "1545", "EWR", "IAH"]) == "UA~1545~EWR~IAH"
    assert segment_key(["Zürich", "1.5"]) == "Zürich~1.5"
    assert segment_key(["all"]) != segment_key([]) == ALL


def test_the_keys_of_a_table_are_those_of_its_rows():
    table = pa.table({"carrier": ["UA", None, "UA", ""], "number": pa.array([1545, 7, None, 7], pa.int64())})
    expected = ["UA~1545", "%null~7", "UA~%null", "%empty~7"]
    assert segment_keys(table, ["carrier", "number"]).to_pylist() == expected
    assert segment_keys(table, []).to_pylist() == [ALL] * 4
    assert segment_keys(table.slice(0, 0), ["carrier"]).to_pylist() == []


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(KeyError, match=r"\['tail'\] are not columns of the table, which has \['carrier'\]"):
        segment_keys(pa.table({"carrier": ["UA"]}), ["tail"])


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.sampled_from("123")), max_size=30))
def test_every_node_at_every_level_is_one_run_of_rows_in_their_old_order(rows):
    columns = dict(zip("abc", zip(*rows, strict=True), strict=True)) if rows else {name: [] for name in "abc"}
    table = pa.table({name: pa.array(list(values), pa.string()) for name, values in columns.items()})
    table = table.append_column("place", pa.array(range(len(rows)), pa.int64()))
    levels = (("a", "b", "c"), ("c",), ())
    laid_out, nodes = lay_out(table, levels)
    assert sorted(laid_out.column("place").to_pylist()) == list(range(len(rows)))
    for node in nodes:
        run = laid_out.slice(node.start, node.length)
        assert set(segment_keys(run, levels[node.level]).to_pylist()) == {node.segment}
        assert node.length == segment_keys(table, levels[node.level]).to_pylist().count(node.segment)
        if node.level == 0:
            places = run.column("place").to_pylist()
            assert places == sorted(places)
    by_name = {node.segment: node for node in nodes}
    assert len(by_name) == len(nodes)
    for node in nodes:
        if node.parent is not None:
            parent = by_name[node.parent]
            assert parent.level == node.level + 1
            assert parent.start <= node.start <= node.start + node.length <= parent.start + parent.length


def test_the_root_comes_first_and_parents_before_their_children():
    table = pa.table({"a": ["x", "y"] * 3, "b": list("112233")})
    _, nodes = lay_out(table, (("a", "b"), ("a",), ()))
    assert [node.level for node in nodes] == [2, 1, 1, *[0] * 6]
    assert np.unique([node.segment for node in nodes]).size == len(nodes)
