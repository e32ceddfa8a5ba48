from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.reports import Evaluation
from factory_assets.core.metrics import evaluate_metric, evaluate_metrics
from factory_assets.core.segments import Node
from factory_assets.core.serving.hierarchy import LEAST_ROWS, LaterRows, decide_fleet
from factory_assets.core.serving.paired_test import compare_with_parent, estimate_gain
from factory_assets.core.training.fit import TrainedModel
from factory_assets.core.training.segment_training import SegmentResult
from factory_assets.core.training.time_split import EXAM, HOLDOUT

SEGMENTS = 12
DAYS = 24
EXAM_DAYS = 6


def spec_of(confidence=0.9, metric="brier"):
    return ModelLineSpec.model_validate(
        {
            "name": "delay",
            "feature_set": "feat_flight",
            "entity": ["id"],
            "as_of": "at",
            "label": {"model": "fct_flight", "column": "late", "known_at": "known_at"},
            "estimator": "sklearn.linear_model.LogisticRegression",
            "segment_by": ["carrier"],
            "validation": {"metric": metric},
            "segments": {"confidence": confidence},
        }
    )


def fitted(segment, scores, labels, judged, metric):
    """A result whose model gave `scores`, with a dummy that any of them beats."""
    worst = {name: np.inf if name in ("brier", "log_loss") else -np.inf for name in ("brier", "log_loss", "roc_auc")}
    evaluation = Evaluation(metric, judged, evaluate_metrics("classification", labels[:judged], scores[:judged]), worst, {})
    nothing = np.empty(0)
    trained = TrainedModel(None, (), (), evaluation, (), None, nothing, nothing, nothing)
    return SegmentResult(segment, "fitted", trained=trained, scores=scores)


def build_fleet(gain, seed, metric="brier", rows_a_day=2):
    """A global model that is right half-way, and segments' models that are nearer to the truth by `gain`, plus noise."""
    random = np.random.default_rng(seed)
    count = DAYS * rows_a_day
    total = SEGMENTS * count
    truth = random.uniform(0.05, 0.95, size=total)
    labels = (random.uniform(size=total) < truth).astype(float)
    days = np.tile(np.repeat(np.arange(DAYS), rows_a_day), SEGMENTS)
    parts = np.where(days >= DAYS - EXAM_DAYS, EXAM, HOLDOUT).astype(np.int8)
    top = 0.5 + 0.5 * (truth - 0.5)
    own = np.clip(top + gain * (truth - top) + random.normal(scale=0.05, size=total), 0.01, 0.99)
    nodes = [Node("all", 1, 0, total, None), *(Node(f"s{k}", 0, k * count, count, "all") for k in range(SEGMENTS))]
    results = {}
    for node in nodes:
        where = slice(node.start, node.start + node.length)
        scores = (top if node.segment == "all" else own)[where]
        order = np.concatenate([np.flatnonzero(parts[where] == part) for part in (HOLDOUT, EXAM)])
        judged = int((parts[where] == HOLDOUT).sum())
        results[node.segment] = fitted(node.segment, scores[order], labels[where][order], judged, metric)
    return nodes, results, LaterRows(labels, parts, days), own, top


def test_segments_whose_models_are_better_beyond_doubt_serve_themselves():
    nodes, results, rows, *_ = build_fleet(gain=1.0, seed=0, rows_a_day=20)
    decisions, report = decide_fleet(spec_of(), nodes, results, rows, frozenset(), None)
    assert sum(decision.serves for decision in decisions.values()) > SEGMENTS / 2
    assert report.deepest_level == 0
    assert report.value < report.global_value


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([-0.5, 0.0, 0.1, 0.5]), st.sampled_from(["brier", "log_loss", "roc_auc"]))
def test_on_the_exam_the_fleet_is_never_worse_than_its_global_model(seed, gain, metric):
    nodes, results, rows, own, top = build_fleet(gain, seed, metric)
    spec = spec_of(confidence=0.5, metric=metric)
    decisions, report = decide_fleet(spec, nodes, results, rows, frozenset(), None)
    better = report.value >= report.global_value if metric == "roc_auc" else report.value <= report.global_value
    assert better
    served = top.copy()
    for node in nodes[1:]:
        if decisions[node.segment].serves:
            served[node.start : node.start + node.length] = own[node.start : node.start + node.length]
    exam = rows.parts == EXAM
    assert report.value == pytest.approx(evaluate_metric(metric, rows.labels[exam], served[exam]))
    assert report.global_value == pytest.approx(evaluate_metric(metric, rows.labels[exam], top[exam]))


def test_models_that_are_only_noisier_hardly_ever_serve():
    chosen = []
    for seed in range(20):
        nodes, results, rows, *_ = build_fleet(gain=0.0, seed=seed)
        decisions, _ = decide_fleet(spec_of(confidence=0.95), nodes, results, rows, frozenset(), 0)
        chosen.append(sum(decision.serves for decision in decisions.values()) - 1)
    assert np.mean(chosen) < 0.1 * SEGMENTS


def test_confidence_decides_how_much_is_taken_for_chance():
    nodes, results, rows, *_ = build_fleet(gain=0.5, seed=1)
    serving = [
        sum(d.serves for d in decide_fleet(spec_of(confidence), nodes, results, rows, frozenset(), 0)[0].values())
        for confidence in (0.5, 0.9, 0.999)
    ]
    assert serving == sorted(serving, reverse=True)
    assert serving[0] > serving[2]


def test_below_the_depth_that_serves_best_nothing_serves():
    nodes, results, rows, *_ = build_fleet(gain=1.0, seed=0, rows_a_day=20)
    decisions, report = decide_fleet(spec_of(), nodes, results, rows, frozenset(), 1)
    assert report is None
    assert {segment for segment, decision in decisions.items() if decision.serves} == {"all"}
    told = {decision.reason for segment, decision in decisions.items() if results[segment].trained and segment != "all"}
    assert "Left to its parent: since the last exam of the whole fleet nothing finer than the global model serves." in told


def as_parent(fleet):
    """The same fleet with a level between, whose one node is like the model of all rows."""
    nodes, results, rows, *_ = fleet
    total = len(rows.labels)
    between = replace(results["all"], segment="m")
    below = [replace(node, parent="m") for node in nodes if node.segment != "all"]
    return [Node("all", 2, 0, total, None), Node("m", 1, 0, total, "all"), *below], {**results, "m": between}, rows


def reasons_of(nodes, results, rows, spec, deepest=None, serving=frozenset()):
    decisions, report = decide_fleet(spec, nodes, results, rows, serving, deepest)
    return {segment: decision.reason for segment, decision in decisions.items()}, decisions, report


def losing_to_the_dummy(result):
    evaluation = result.trained.evaluation
    return replace(result, trained=replace(result.trained, evaluation=replace(evaluation, dummy=evaluation.scores)))


def test_without_a_global_model_nothing_serves_and_every_reason_says_so():
    nodes, results, rows, *_ = build_fleet(gain=1.0, seed=0, rows_a_day=20)
    results["all"] = losing_to_the_dummy(results["all"])
    reasons, decisions, report = reasons_of(nodes, results, rows, spec_of())
    assert not any(decision.serves or decision.promote for decision in decisions.values())
    assert "does not beat the dummy model's" in reasons.pop("all")
    told = "Not served: the global model does not serve, and without it a fleet has nothing to be compared with."
    assert set(reasons.values()) == {told}
    assert (report.rows, report.deepest_level) == (0, 1)
    some = {"all": SegmentResult("all", "scored"), "s0": results["s0"]}
    assert reasons_of(nodes, some, rows, spec_of(), deepest=1)[0]["s0"] == told


def test_an_exam_without_rows_is_told_as_such():
    nodes, results, rows, *_ = build_fleet(gain=1.0, seed=0, rows_a_day=20)
    judged = {
        segment: replace(
            result, scores=result.scores[: int((rows.parts == HOLDOUT).sum() * len(result.scores) // len(rows.parts))]
        )
        for segment, result in results.items()
    }
    early = LaterRows(rows.labels, np.where(rows.parts == EXAM, 0, rows.parts), rows.days)
    reasons, decisions, report = reasons_of(nodes, judged, early, spec_of())
    assert [segment for segment, decision in decisions.items() if decision.serves] == ["all"]
    assert "Left to its parent: the fleet cannot be examined, as no row of its exam has a label yet." in reasons.values()
    assert report.rows == 0


def test_an_exam_of_one_class_is_told_as_such():
    nodes, results, rows, *_ = build_fleet(gain=1.0, seed=0, metric="roc_auc", rows_a_day=20)
    labels = np.where(rows.parts == EXAM, 0.0, rows.labels)
    reasons, _, report = reasons_of(nodes, results, LaterRows(labels, rows.parts, rows.days), spec_of(metric="roc_auc"))
    told = f"the fleet cannot be examined, as roc_auc is undefined on the {report.rows:,} rows of its exam."
    assert report.rows == (rows.parts == EXAM).sum()
    assert f"Left to its parent: {told}" in reasons.values()


def turned_on_the_exam(fleet, closer):
    """Segments' models that win on the holdout, and whose distance from the label is `closer` times the global one's."""
    nodes, results, rows, _, top = fleet
    for node in nodes[1:]:
        exam = rows.of(node, EXAM)
        own = rows.labels[exam] + closer(len(exam)) * (top[exam] - rows.labels[exam])
        scores = results[node.segment].scores
        results[node.segment] = replace(results[node.segment], scores=np.append(scores[: len(scores) - len(exam)], own))
    return nodes, results, rows


def test_a_fleet_that_is_worse_on_its_exam_is_told_both_values():
    fleet = turned_on_the_exam(build_fleet(gain=1.0, seed=0, rows_a_day=20), lambda rows: 1.5)
    reasons, _, report = reasons_of(*fleet, spec_of())
    end = f"with nothing finer than the global model ({report.global_value:.4f})."
    start = (
        f"Left to its parent: on {report.rows:,} rows of the exam the fleet is no better with models as fine as this (brier "
    )
    assert any(reason.startswith(start) and reason.endswith(end) for reason in reasons.values())


def test_a_gain_on_the_exam_that_may_be_chance_is_told_with_its_doubt():
    nodes, results, rows = turned_on_the_exam(build_fleet(gain=1.0, seed=0, rows_a_day=20), lambda rows: 0.9)
    one_day = LaterRows(rows.labels, rows.parts, np.where(rows.parts == EXAM, DAYS, rows.days))
    reasons, *_ = reasons_of(nodes, results, one_day, spec_of())
    end = "over the global model alone on 1,440 later rows may be chance (p = 1.00, segments.confidence is 0.9)."
    start = "Left to its parent: on 1,440 rows of the exam the fleet has brier "
    assert any(reason.startswith(start) and reason.endswith(end) for reason in reasons.values())


def test_the_level_that_serves_is_named_by_its_columns():
    spec = ModelLineSpec.model_validate(
        {
            **spec_of().model_dump(mode="json", exclude_unset=True),
            "segment_by": ["carrier", "flight"],
            "parents": [["carrier"]],
        }
    )
    nodes, results, rows = as_parent(build_fleet(gain=1.0, seed=0, rows_a_day=20))
    reasons, *_ = reasons_of(nodes, results, rows, spec, deepest=1, serving=frozenset({"all", "m"}))
    stands = "since the last exam of the whole fleet nothing finer than a model for each carrier serves."
    assert f"Left to its parent: {stands}" in reasons.values()


def test_a_model_that_needed_no_training_and_serves_again_is_told_so():
    nodes, results, rows, *_ = build_fleet(gain=1.0, seed=0, rows_a_day=20)
    results["s0"] = SegmentResult("s0", "scored", reigning_scores=results["s0"].scores)
    reasons, decisions, _ = reasons_of(nodes, results, rows, spec_of())
    assert (decisions["s0"].serves, decisions["s0"].promote) == (True, False)
    assert reasons["s0"] == "Not trained again: what it learns from is the same."


def test_too_few_later_rows_leave_what_served_and_promote_nothing():
    nodes, results, rows, _, top = build_fleet(gain=1.0, seed=0, rows_a_day=20)
    few = LaterRows(rows.labels, rows.parts.copy(), rows.days)
    node = nodes[1]
    few.parts[node.start + LEAST_ROWS - 1 : node.start + node.length] = 0
    places = np.concatenate([few.of(nodes[0], part) for part in (HOLDOUT, EXAM)])
    judged = len(few.of(nodes[0], HOLDOUT))
    root = fitted("all", top[places], few.labels[places], judged, "brier")
    kept = SegmentResult(node.segment, "scored", reigning_scores=results[node.segment].scores[: LEAST_ROWS - 1])
    for serves_now in (True, False):
        serving = frozenset({node.segment} if serves_now else ())
        decisions, _ = decide_fleet(spec_of(), nodes, {"all": root, node.segment: kept}, few, serving, 0)
        assert decisions[node.segment].serves == serves_now
        assert not decisions[node.segment].promote


def test_in_a_cycle_of_some_segments_their_parents_stay_as_they_stand():
    nodes, results, rows, *_ = build_fleet(gain=1.0, seed=0, rows_a_day=20)
    root = SegmentResult("all", "scored", reigning_scores=results["all"].scores)
    some = {"all": root, "s0": results["s0"]}
    decisions, report = decide_fleet(spec_of(), nodes, some, rows, frozenset({"all"}), 0)
    assert (set(decisions), report) == ({"all", "s0"}, None)
    assert (decisions["all"].serves, decisions["all"].promote) == (True, False)
    assert decisions["s0"].parent_value is not None


def test_rows_of_one_day_count_as_one():
    gains = np.random.default_rng(0).normal(0.3, 1.0, size=200)
    _, single = estimate_gain(gains, np.arange(200))
    _, together = estimate_gain(np.repeat(gains[:20], 10), np.repeat(np.arange(20), 10))
    _, alone = estimate_gain(gains[:20], np.arange(20))
    assert together == pytest.approx(alone)
    assert single < together
    assert estimate_gain(np.array([0.1, 0.2]), np.array([1, 1]))[1] == 1.0
    assert estimate_gain(np.array([0.1, 0.1]), np.array([1, 2]))[1] == 0.0


def test_a_worse_model_is_told_by_how_much():
    labels, days = np.array([0.0, 1.0] * 10), np.arange(20)
    said = compare_with_parent(spec_of(), labels, np.full(20, 0.5), np.where(labels > 0, 0.9, 0.1), days)
    assert said == "on 20 later rows the error of the parent is smaller by 0.24 a row"
