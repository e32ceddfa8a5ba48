"""The sweep over Delta gives what the same rows give in memory, and leaves the memory that the next day needs."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory_assets.contracts.drift_policy import DriftSpec
from factory_assets.contracts.reports import ScoreProfile
from factory_assets.core.drift import build_reference
from factory_assets.core.drift.counting import ChangedTypeError
from factory_assets.core.drift.frames import compare_frame
from factory_assets.core.drift.packing import FLOATS, INTEGERS, unpack
from factory_assets.core.drift.verdicts import evaluate_drift
from factory_assets.storage.delta.lake import Lake, TableSpec
from factory_assets.storage.tables import drift_windows
from factory_assets.storage.tables.drift_references import DRIFT_REFERENCES, DriftReferences, Serving
from factory_assets.storage.tables.drift_results import DRIFT_RESULTS, DriftResults
from factory_assets.storage.tables.drift_windows import Window, compare_window

START = datetime(2013, 7, 1, tzinfo=UTC)
SPAN = (START, START + timedelta(days=7))
FEATURES = ["x", "n", "flag", "t"]


def rows(seed, count=900, segments=("a", "b", "c'"), shift=0.0):
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "segment": random.choice(list(segments), count),
            "x": np.where(random.uniform(size=count) < 0.1, np.nan, random.normal(shift, size=count)),
            "n": random.poisson(3, count),
            "flag": random.uniform(size=count) < 0.3,
            "t": random.choice(["red", "green", "é'", None], count),
        }
    )
    frame.loc[:3, "x"] = np.inf
    return frame


def write(lake, frame, days=7):
    table = pa.Table.from_pandas(frame, preserve_index=False)
    step = timedelta(days=days) / len(frame)
    at = pa.array([START + step * place for place in range(len(frame))], pa.timestamp("us", "UTC"))
    lake.replace(TableSpec("features/f", table.append_column("at", at).schema, ("at",)), table.append_column("at", at))
    return lake.pin("features/f")


def refer(frame):
    return {
        segment: tuple(build_reference(name, rows[name]) for name in FEATURES) for segment, rows in frame.groupby("segment")
    }


def kept(lake, reference):
    made = refer(reference)
    DriftReferences(lake).record("line", 3, made)
    return made


def as_an_older_release_wrote_them(lake):
    """Edges and counts as lists."""
    rows = lake.find(DRIFT_REFERENCES.name).handle.to_pyarrow_table()
    for name, kind, numbers in (("edges", FLOATS, pa.float64()), ("counts", INTEGERS, pa.int64())):
        lists = [unpack(packed, kind) for packed in rows[name].to_pylist()]
        rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(lists, pa.list_(numbers)))
    shutil.rmtree(lake.uri(DRIFT_REFERENCES.name))
    lake.replace(replace(DRIFT_REFERENCES, schema=rows.schema), rows)


def window(table, features=FEATURES, span=SPAN):
    return Window.of_table(table, {name: name for name in features}, "at", span, "segment")


def same(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.segments.tolist() == other.segments.tolist()
        assert one.features.tolist() == other.features.tolist()
        for name in ("reference", "current", "edges", "below", "above", "spread", "discrete", "design_effect"):
            assert np.allclose(getattr(one, name), getattr(other, name)), name
        assert one.categories.tolist() == other.categories.tolist()


@pytest.fixture
def lake(tmp_path):
    return Lake(str(tmp_path))


def test_the_sweep_counts_as_the_frame_does(lake):
    made, current = kept(lake, rows(0)), rows(1, 400, shift=1.0)
    serving = [Serving(segment, segment, 3) for segment in made]
    ours = compare_window(lake, "line", window(write(lake, current)), serving)
    same(ours, compare_frame(made, current, current["segment"].to_numpy()))


def test_feature_by_feature_for_want_of_memory_gives_the_same_verdict(lake, monkeypatch):
    made, current = kept(lake, rows(0)), rows(1, 400, shift=1.0)
    table, serving = write(lake, current), [Serving(segment, segment, 3) for segment in made]
    spec = DriftSpec(min_rows=20)
    at_once = evaluate_drift(compare_window(lake, "line", window(table), serving), spec)[0]
    monkeypatch.setattr(drift_windows, "_MOST_VALUES", 1)
    assert evaluate_drift(compare_window(lake, "line", window(table), serving), spec)[0] == at_once


def test_only_rows_of_the_window_count(lake):
    made, current = kept(lake, rows(0)), rows(1, 700)
    table, serving = write(lake, current, days=14), [Serving(segment, segment, 3) for segment in made]
    inside = current.head(350)
    same(compare_window(lake, "line", window(table), serving), compare_frame(made, inside, inside["segment"].to_numpy()))


def test_a_segment_may_be_served_by_anothers_reference_and_one_without_rows_is_empty(lake):
    kept(lake, rows(0))
    table = write(lake, rows(1, 400, segments=("a", "new")))
    found = compare_window(lake, "line", window(table, ["x"]), [Serving("new", "b", 3), Serving("gone", "a", 3)])[0]
    assert found.segments.tolist() == ["gone", "new"]
    assert (found.current[0].sum(), found.current[1].sum() > 100) == (0, True)


def test_references_in_many_files_and_with_features_of_some_segments_alone_count_as_the_frame_does(lake):
    reference, current = rows(0), rows(1, 400, segments=("a", "b", "c'", "unserved"), shift=1.0)
    made = refer(reference)
    made["b"] = tuple(kept for kept in made["b"] if kept.feature != "x")
    for segment in ("c'", "a", "b"):
        DriftReferences(lake).record("line", 3, {segment: made[segment]})
    serving = [Serving(segment, segment, 3) for segment in ("b", "c'", "a")]
    ours = compare_window(lake, "line", window(write(lake, current)), serving)
    same(ours, compare_frame(made, current, current["segment"].to_numpy()))


def test_a_lake_may_lie_in_any_folder(tmp_path):
    lake = Lake(str(tmp_path / "a folder of ü's, 50%"))
    made, current = kept(lake, rows(0)), rows(1, 400)
    serving = [Serving(segment, segment, 3) for segment in made]
    ours = compare_window(lake, "line", window(write(lake, current)), serving)
    same(ours, compare_frame(made, current, current["segment"].to_numpy()))


def test_other_versions_and_lines_are_not_compared_with(lake):
    kept(lake, rows(0))
    table = write(lake, rows(1))
    assert compare_window(lake, "line", window(table), [Serving("a", "a", 2)]) == []
    assert compare_window(lake, "other", window(table), [Serving("a", "a", 3)]) == []
    assert compare_window(Lake(lake.root + "/none"), "line", window(table), [Serving("a", "a", 3)]) == []


def test_numbers_that_became_text_are_a_broken_contract(lake):
    kept(lake, rows(0))
    table = write(lake, rows(1).assign(n="many"))
    with pytest.raises(ChangedTypeError, match=r"features n are numbers on one side and text on the other"):
        compare_window(lake, "line", window(table), [Serving("a", "a", 3)])


@settings(max_examples=15)
@given(st.lists(st.one_of(st.none(), st.floats(), st.sampled_from([0.0, 1.0])), min_size=1, max_size=40), st.data())
def test_any_numbers_are_counted_alike(tmp_path_factory, before, data):
    after = data.draw(st.lists(st.one_of(st.none(), st.floats()), min_size=1, max_size=40))
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    reference = pd.DataFrame({"x": pd.array(before, dtype="float64")})
    made = {"all": (build_reference("x", reference["x"]),)}
    DriftReferences(lake).record("line", 3, made)
    current = pd.DataFrame({"x": pd.array(after, dtype="float64"), "segment": "all"})
    ours = compare_window(lake, "line", window(write(lake, current), ["x"]), [Serving("all", "all", 3)])
    theirs = compare_frame(made, current)
    assert ours[0].current.tolist() == theirs[0].current.tolist()


def read(lake, made, segment, version):
    read_feature = DriftReferences(lake).read_feature
    return [read_feature("line", reference.feature, {segment: version})[segment] for reference in made[segment]]


class TestReferencesOfAnOlderRelease:
    def test_serve_as_they_did(self, lake):
        made, current = kept(lake, rows(0)), rows(1, 400, shift=1.0)
        table, serving = write(lake, current), [Serving(segment, segment, 3) for segment in made]
        expected = compare_frame(made, current, current["segment"].to_numpy())
        packed = read(lake, made, "c'", 3)
        as_an_older_release_wrote_them(lake)
        same(compare_window(lake, "line", window(table), serving), expected)
        assert read(lake, made, "c'", 3) == packed == list(made["c'"])

    def test_are_packed_with_all_lines_and_versions_before_the_next_are_written(self, lake):
        made = kept(lake, rows(0))
        profile = ScoreProfile((0.5,), (1, 1), (0.0, 1.0), (0.1, 0.1), (0.01, 0.01))
        predicted = {"all": (build_reference("prediction", pd.Series([0.1, 0.9])),)}
        DriftReferences(lake).record("other", 1, predicted, {"all": profile})
        before = lake.rows(DRIFT_REFERENCES)
        as_an_older_release_wrote_them(lake)
        DriftReferences(lake).record("line", 4, {"a": made["a"]})
        references = lake.find(DRIFT_REFERENCES.name)
        assert references.handle.metadata().partition_columns == ["line"]
        assert references.columns == DRIFT_REFERENCES.schema.names
        assert lake.rows(DRIFT_REFERENCES, "version <> 4") == before
        assert read(lake, made, "a", 4) == read(lake, made, "a", 3) != []
        assert DriftReferences(lake).read_profiles("other", {"all": 1}) == {"all": profile}


class TestReferences:
    def test_come_back_as_they_were_written_and_twice_changes_nothing(self, lake):
        made = kept(lake, rows(0))
        kept(lake, rows(0))
        for reference in made["c'"]:
            assert DriftReferences(lake).read_feature("line", reference.feature, {"c'": 3}) == {"c'": reference}

    def test_segments_that_are_trained_later_leave_the_others_of_the_version(self, lake):
        made = kept(lake, rows(0))
        DriftReferences(lake).record("line", 3, {"d": made["a"]})
        feature = made["a"][0].feature
        found = DriftReferences(lake).read_feature("line", feature, {"a": 3, "d": 3})
        assert found == dict.fromkeys(("a", "d"), made["a"][0])

    def test_the_profile_lies_beside_the_predictions(self, lake):
        made = {"all": (build_reference("prediction", pd.Series([0.1, 0.9])),)}
        profile = ScoreProfile((0.5,), (1, 1), (0.0, 1.0), (0.1, 0.1), (0.01, 0.01))
        DriftReferences(lake).record("line", 1, made, {"all": profile})
        assert DriftReferences(lake).read_profiles("line", {"all": 1}) == {"all": profile}
        assert DriftReferences(lake).read_profiles("line", {"all": 2}) == {}


class TestResults:
    def record(self, lake, day, shift, version=3):
        made = {"all": (build_reference("x", pd.Series(np.random.default_rng(0).normal(size=900))),)}
        current = pd.DataFrame({"x": np.random.default_rng(day).normal(shift, size=300)})
        report, table = evaluate_drift(compare_frame(made, current), DriftSpec())
        span = (SPAN[0] + timedelta(days=day), SPAN[1] + timedelta(days=day))
        DriftResults(lake).record("line", "feature_drift", span, {"all": version}, report, table)

    def test_remember_how_many_of_the_last_windows_exceeded(self, lake):
        for day, shift in enumerate([2.0, 0.0, 2.0, 2.0]):
            self.record(lake, day, shift)
        end, count = SPAN[1] + timedelta(days=4), DriftResults(lake).count_exceeded
        assert [count("line", "feature_drift", end, windows, {"all": 3}) for windows in (1, 2, 3, 9)] == [
            {"all": 1}, {"all": 2}, {"all": 2}, {"all": 3}
        ]  # fmt: skip
        assert count("line", "feature_drift", end - timedelta(days=2), 9, {"all": 3}) == {"all": 1}

    def test_a_new_champion_starts_with_nothing_against_it(self, lake):
        self.record(lake, 0, 2.0)
        assert DriftResults(lake).count_exceeded("line", "feature_drift", SPAN[1] + timedelta(days=1), 5, {"all": 4}) == {}

    def test_a_day_judged_again_is_there_once(self, lake):
        for _ in range(2):
            self.record(lake, 0, 2.0)
        assert len(lake.rows(DRIFT_RESULTS)) == 1
