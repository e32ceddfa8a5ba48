import pickle
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from factory_assets.core.models.artefacts import digest, unpack_payload, unpickle_model
from factory_assets.core.models.prediction import predict_scores
from factory_assets.core.segments import lay_out
from factory_assets.core.training.segment_training import ReigningModel, SegmentTask, build_job, fit_chunk, split_segment

SMALL = {"max_iter": 5}


@pytest.fixture
def fleet(build_spec, build_frame, now):
    """Job, table and nodes of three carriers and one unknown."""
    enough = {"min_rows": 100}
    spec = build_spec(segment_by=["carrier"], params=SMALL, features=["delay", "unknown", "weekend"], validation=enough)
    table, nodes = lay_out(pa.Table.from_pandas(build_frame(), preserve_index=False), spec.levels)
    return build_job(spec, table, now), table, {node.segment: node for node in nodes}


def run(fleet, *tasks):
    job, table, _ = fleet
    return list(fit_chunk(job, table, tasks))


def test_a_segment_is_fitted_on_its_own_rows_and_scored_on_the_later_ones(fleet):
    job, table, nodes = fleet
    node = nodes["AA"]
    (result,) = run(fleet, SegmentTask(node))
    assert (result.segment, result.outcome) == ("AA", "fitted")
    split = split_segment(job.spec, table.slice(node.start, node.length), job.holdout_until_utc)
    assert len(result.scores) == len(split.holdout) + len(split.exam)
    assert result.trained.evaluation.rows == len(split.holdout) > len(split.exam) > 0
    model = unpickle_model(unpack_payload(result.model, "AA"), result.model.sha256)
    again = predict_scores(model, split.exam, job.numeric, job.categorical, job.spec.task)
    np.testing.assert_array_equal(again, result.scores[len(split.holdout) :])


def test_work_and_results_travel_between_processes_and_give_the_same_bytes(fleet):
    job, table, nodes = fleet
    tasks = [SegmentTask(nodes["AA"]), SegmentTask(nodes["all"])]
    first = run(fleet, *tasks)
    moved_job, moved_tasks = pickle.loads(pickle.dumps((job, tasks)))
    second = pickle.loads(pickle.dumps(list(fit_chunk(moved_job, table, moved_tasks[::-1]))))[::-1]
    assert all(result.model for result in first)
    assert [result.model for result in first] == [result.model for result in second]


def test_one_bad_segment_is_its_own_result_and_the_others_are_fitted(fleet):
    job, table, nodes = fleet
    bad = nodes["B6"]
    labels = table.column("label").to_numpy(zero_copy_only=False).astype(float)
    labels[bad.start + 1] = 7.0
    spoilt = table.set_column(table.column_names.index("label"), "label", pa.array(labels))
    results = run((job, spoilt, nodes), *(SegmentTask(nodes[key]) for key in ("AA", "B6", "DL")))
    assert [result.outcome for result in results] == ["fitted", "failed", "fitted"]
    assert results[1].reason.startswith("ValueError: a classification label is 0 or 1, and this one holds")


def test_too_few_rows_and_a_single_class_are_said_and_are_no_failure(fleet):
    job, table, nodes = fleet
    node = nodes["AA"]
    (small,) = run(fleet, SegmentTask(replace(node, length=20)))
    assert (small.outcome, small.model) == ("too_small", None)
    assert small.reason == "20 training rows, and segments.min_rows is 50"
    constant = pa.array(np.zeros(table.num_rows))
    one_class = table.set_column(table.column_names.index("label"), "label", constant)
    (single,) = run((job, one_class, nodes), SegmentTask(node))
    assert single.outcome == "single_class"


def test_min_rows_decides_which_segments_are_fitted(fleet):
    job, table, nodes = fleet
    segments = job.spec.segments.model_copy(update={"min_rows": 5000})
    wanting = replace(job, spec=job.spec.model_copy(update={"segments": segments}))
    (result,) = run((wanting, table, nodes), SegmentTask(nodes["AA"]))
    assert result.outcome == "too_small"


def test_the_reigning_model_is_scored_on_the_same_rows(fleet):
    job, _, nodes = fleet
    (first,) = run(fleet, SegmentTask(nodes["AA"]))
    reigning = ReigningModel(first.model, job.numeric, job.categorical)
    fitted, scored = run(fleet, SegmentTask(nodes["AA"], reigning=reigning), SegmentTask(nodes["AA"], False, reigning))
    np.testing.assert_array_equal(fitted.reigning_scores, first.scores)
    assert fitted.reigning.scores == first.trained.evaluation.scores
    assert (scored.outcome, scored.model, scored.reigning) == ("scored", None, fitted.reigning)


@pytest.mark.parametrize("change", ["hash", "payload", "feature", "gone"])
def test_a_reigning_model_that_cannot_be_trusted_or_used_gives_no_scores(fleet, change):
    job, _, nodes = fleet
    (first,) = run(fleet, SegmentTask(nodes["AA"]))
    packed = {
        "hash": replace(first.model, sha256=digest(b"")),
        "payload": replace(first.model, payload=b"x"),
        "gone": None,
    }
    numeric = ("gone",) if change == "feature" else job.numeric
    reigning = ReigningModel(packed.get(change, first.model), numeric, job.categorical)
    (result,) = run(fleet, SegmentTask(nodes["AA"], reigning=reigning))
    assert result.outcome == "fitted"
    assert result.reigning_scores is None
    assert result.reigning.scores == {}


def test_a_segment_of_nothing_but_nulls_keeps_the_types_of_the_table(build_spec, build_frame, now):
    spec = build_spec(segment_by=["carrier"], params=SMALL, features=["delay", "vip"])
    frame = build_frame()
    vip = pa.array([None if carrier == "AA" else True for carrier in frame["carrier"]], pa.bool_())
    table = pa.Table.from_pandas(frame, preserve_index=False).append_column("vip", vip)
    table, nodes = lay_out(table, spec.levels)
    job = build_job(spec, table, now)
    assert job.numeric == ("delay", "vip")
    (result,) = fit_chunk(job, table, [SegmentTask(node) for node in nodes if node.segment == "AA"])
    assert result.outcome == "fitted"


def test_a_line_without_segments_has_no_exam(build_spec, build_frame, now):
    table = pa.Table.from_pandas(build_frame(), preserve_index=False)
    spec = build_spec(params=SMALL, validation={"min_rows": 100})
    (root,) = lay_out(table, spec.levels)[1]
    (result,) = fit_chunk(build_job(spec, table, now), table, [SegmentTask(root)])
    assert len(result.scores) == result.trained.evaluation.rows
    assert result.trained.evaluation.baseline
