"""Which level of a fleet serves each segment: decided on later rows by the gate, never by the declaration.

The rules. The newest labelled rows are parted in two. On the *holdout* each node's challenger meets the dummy, the line's
bounds and the reigning model, as everywhere; the better of the two then serves only if it also beats whatever serves the
node's parent, on the same rows, by a paired one-sided test of the row losses at `segments.confidence`. Without that
test a thousand coin tosses would be won by noise, and the fleet would be worse than its global model. Rows of one day
share its weather and its traffic, so the days are what is counted, not the rows.

On the *exam*, which no such choice has seen, the fleet is judged as a whole: with all levels, without the segments, without
their parents, and so on to the global model alone. The deepest of them serves that has a better metric than every
shallower one and passes the same test against the global model. So on those rows the fleet is never worse than its
global model, and both numbers are reported. They are the best of a handful of candidates over all rows of the exam,
which flatters them by far less than their own sampling error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from factory_assets.contracts.fleet import FleetReport, NodeDecision
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.reports import PromotionDecision
from factory_assets.core.metrics import evaluate_metric, evaluate_row_losses
from factory_assets.core.promotion import decide_promotion
from factory_assets.core.segment_training import SegmentResult
from factory_assets.core.segments import Node
from factory_assets.core.time_split import EXAM, HOLDOUT

# A t-test of fewer pairs says nothing worth acting on.
LEAST_ROWS = 8


@dataclass(frozen=True)
class LaterRows:
    """The rows of a cycle's table as the decision sees them: label, part of time, and day (any whole number a day)."""

    labels: np.ndarray
    parts: np.ndarray
    days: np.ndarray

    def of(self, node: Node, part: int) -> np.ndarray:
        """Positions of a node's rows in one part, in the order of the table."""
        return node.start + np.flatnonzero(self.parts[node.start : node.start + node.length] == part)


@dataclass(frozen=True)
class _Candidate:
    """The better of a node's own two models, and its scores over the whole table's rows (NaN elsewhere)."""

    gate: PromotionDecision | None
    scores: np.ndarray | None
    is_challenger: bool
    objection: str


def decide_fleet(
    spec: ModelLineSpec,
    nodes: Sequence[Node],
    results: Mapping[str, SegmentResult],
    rows: LaterRows,
    serving: frozenset[str],
    deepest: int | None,
) -> tuple[dict[str, NodeDecision], FleetReport | None]:
    """Decides for every node of this cycle whether its challenger is promoted and whether it serves itself.

    Args:
        spec: the model line.
        nodes: those of the table, parents before children.
        results: of the nodes that take part; with a node its ancestors take part.
        rows: of the table.
        serving: nodes whose own model served until now.
        deepest: the deepest level that may serve, from the last examination; None examines anew, which needs a result of
            every node.

    Returns:
        A decision for each node in `results`, and the report of the examination, if there was one.
    """
    taking_part = [node for node in nodes if node.segment in results]
    top = len(spec.levels) - 1
    served = {top + 1: np.full(len(rows.labels), np.nan)}
    decisions: dict[str, NodeDecision] = {}
    for level in range(top, -1, -1):
        served[level] = served[level + 1].copy()
        for node in taking_part:
            if node.level == level:
                result, serves_now = results[node.segment], node.segment in serving
                into, above = served[level], served[level + 1]
                # A parent of which only some rows are here is taken as it stands.
                as_it_stands = deepest is not None and result.outcome == "scored"
                decisions[node.segment] = (
                    _keep_node(node, result, rows, into, serves_now)
                    if as_it_stands
                    else _decide_node(spec, node, result, rows, above, into, serves_now)
                )
    report = None if deepest is not None else _examine(spec, served, rows)
    floor = report.deepest_level if report is not None else deepest or 0
    cut_off = {node.segment for node in taking_part if node.level < floor}
    return {
        segment: _step_back(decision, floor, report) if segment in cut_off else decision
        for segment, decision in decisions.items()
    }, report


def _keep_node(node: Node, result: SegmentResult, rows: LaterRows, into: np.ndarray, serves_now: bool) -> NodeDecision:
    """A node that serves as it did, for its children to be compared with."""
    if serves_now and result.reigning_scores is not None:
        into[np.concatenate([rows.of(node, HOLDOUT), rows.of(node, EXAM)])] = result.reigning_scores
    return NodeDecision(node.segment, result.outcome, False, serves_now, "As it stood.", None, None, None)


def _decide_node(
    spec: ModelLineSpec,
    node: Node,
    result: SegmentResult,
    rows: LaterRows,
    parent_scores: np.ndarray,
    into: np.ndarray,
    serves_now: bool,
) -> NodeDecision:
    """Decides one node, and writes what serves its rows into `into`."""
    judged = rows.of(node, HOLDOUT)
    own = _choose_own(spec, result)
    labels, above = rows.labels[judged], parent_scores[judged]
    parent_value = evaluate_metric(spec.metric, labels, above) if node.parent is not None else float("nan")
    if own.scores is None:
        return _decision(node, result, own, promote=False, serves=False, reason=own.objection, parent_value=parent_value)
    if node.parent is None or not np.isfinite(above).all():
        objection = ""
    elif len(judged) < LEAST_ROWS:
        # Nothing new to say: what served goes on, and a challenger has to wait.
        serves = serves_now and not own.is_challenger
        objection = "" if serves else f"{len(judged)} holdout rows are too few to tell it from its parent"
    else:
        objection = compare_with_parent(spec, labels, own.scores[: len(judged)], above, rows.days[judged])
    if objection:
        reason = f"Served by its parent: {objection}."
        return _decision(node, result, own, promote=False, serves=False, reason=reason, parent_value=parent_value)
    into[np.concatenate([judged, rows.of(node, EXAM)])] = own.scores
    promote = own.is_challenger
    reason = own.gate.reason if own.gate is not None else own.objection
    return _decision(node, result, own, promote=promote, serves=True, reason=reason, parent_value=parent_value)


def _choose_own(spec: ModelLineSpec, result: SegmentResult) -> _Candidate:
    """The node's challenger if it passes the gate, else its reigning model, else nothing."""
    if result.trained is None or result.outcome != "fitted":
        reason = result.reason or "No model of its own."
        return _Candidate(None, result.reigning_scores, is_challenger=False, objection=reason)
    gate = decide_promotion(spec, result.trained.evaluation, result.reigning)
    if gate.promote:
        return _Candidate(gate, result.scores, is_challenger=True, objection="")
    return _Candidate(gate, result.reigning_scores, is_challenger=False, objection=gate.reason)


def compare_with_parent(
    spec: ModelLineSpec, labels: np.ndarray, own: np.ndarray, parent: np.ndarray, days: np.ndarray
) -> str:
    """Why the parent goes on serving, as half a sentence; empty when the node's own model is better beyond doubt."""
    gains = evaluate_row_losses(spec.metric, labels, parent) - evaluate_row_losses(spec.metric, labels, own)
    gain, doubt = estimate_gain(gains, days)
    if gain <= 0:
        return f"on {len(gains)} later rows the parent's error is smaller by {-gain:.4g} a row"
    if doubt > 1 - spec.segments.confidence:
        return (
            f"a gain of {gain:.4g} a row over the parent on {len(gains)} later rows may be chance"
            f" (p = {doubt:.2f}, segments.confidence is {spec.segments.confidence:g})"
        )
    return ""


def estimate_gain(gains: np.ndarray, days: np.ndarray) -> tuple[float, float]:
    """The mean gain a row, and the one-sided p-value of a t-test that counts days, not rows, as independent.

    The standard error is that of a ratio of sums over clusters (Cochran, Sampling Techniques, 1977, section 2.11); the
    p-value is 1 when one day is all there is.

    Args:
        gains: shape (n,), n at least 1.
        days: shape (n,), the cluster of each.
    """
    gain = float(gains.mean())
    _, cluster = np.unique(days, return_inverse=True)
    surplus = np.bincount(cluster, weights=gains - gain)
    clusters = len(surplus)
    if clusters < 2:
        return gain, 1.0
    error = float(np.sqrt(clusters / (clusters - 1) * np.sum(surplus**2))) / len(gains)
    if error == 0:
        return gain, 0.0 if gain > 0 else 1.0
    return gain, float(stats.t.sf(gain / error, clusters - 1))


def _examine(spec: ModelLineSpec, served: Mapping[int, np.ndarray], rows: LaterRows) -> FleetReport:
    """The whole fleet on rows that no choice has seen, at every depth."""
    top = len(spec.levels) - 1
    examined = np.flatnonzero(rows.parts == EXAM)
    # Where the global model has no score there is nothing to compare with.
    examined = examined[np.isfinite(served[top][examined])]
    labels, days = rows.labels[examined], rows.days[examined]
    scores = {level: served[level][examined] for level in range(top + 1)}
    values = {level: evaluate_metric(spec.metric, labels, scores[level]) for level in scores}
    best = top
    for level in range(top - 1, -1, -1):
        better = values[level] > values[best] if spec.higher_is_better else values[level] < values[best]
        if better and not compare_with_parent(spec, labels, scores[level], scores[top], days):
            best = level
    return FleetReport(spec.metric, len(examined), values[best], values[top], best, tuple(values[k] for k in sorted(values)))


def _step_back(decision: NodeDecision, floor: int, report: FleetReport | None) -> NodeDecision:
    """A node below the depth that serves best: its parent serves, however good it looked by itself."""
    if not decision.serves:
        return decision
    evidence = "" if report is None else f" ({report.metric} {report.value:.4f} on {report.rows:,} rows of the exam)"
    reason = f"Served by its parent: the fleet as a whole is better without models below level {floor}{evidence}."
    return decision.stand_back(reason)


def _decision(
    node: Node, result: SegmentResult, own: _Candidate, promote: bool, serves: bool, reason: str, parent_value: float
) -> NodeDecision:
    gate = own.gate
    return NodeDecision(
        segment=node.segment,
        outcome=result.outcome,
        promote=promote,
        serves=serves,
        reason=reason,
        challenger_value=gate.challenger_value if gate is not None else None,
        champion_value=gate.champion_value if gate is not None else None,
        parent_value=parent_value if np.isfinite(parent_value) else None,
    )
