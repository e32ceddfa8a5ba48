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

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from factory_assets.contracts.fleet import FleetReport, NodeDecision
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.reports import PromotionDecision
from factory_assets.core.metrics import evaluate_metric, evaluate_row_losses
from factory_assets.core.segments import Node
from factory_assets.core.serving.promotion import decide_promotion
from factory_assets.core.training.segment_training import SegmentResult
from factory_assets.core.training.time_split import EXAM, HOLDOUT

# A t-test of fewer pairs says nothing worth acting on.
LEAST_ROWS = 8
_NO_GLOBAL_MODEL = "the global model does not serve, and no fleet does without it to be compared with"


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


class FleetGate:
    """Decides the nodes of a cycle one by one, each as soon as its own result and its parent's decision are there.

    What it decides before the examination stands, unless the examination has the node's parent serve instead.

    Args:
        spec: the model line.
        nodes: those of the table, parents before children.
        rows: of the table.
        serving: nodes whose own model served until now.
        deepest: the deepest level that may serve, from the last examination; None examines anew, which needs a result of
            every node.
    """

    def __init__(
        self,
        spec: ModelLineSpec,
        nodes: Sequence[Node],
        rows: LaterRows,
        serving: frozenset[str],
        deepest: int | None,
    ) -> None:
        self._spec, self._serving, self._deepest = spec, serving, deepest
        self._nodes, self._rows = _keep_later(nodes, rows)
        self._top = len(spec.levels) - 1
        # The scores of what serves each row, by the deepest level that may; one more for what lies above the top.
        self._served = [np.full(len(self._rows.labels), np.nan) for _ in range(self._top + 2)]
        self._decisions: dict[str, NodeDecision] = {}
        self._waiting: dict[str, list[SegmentResult]] = {}

    def take(self, result: SegmentResult) -> Iterator[tuple[SegmentResult, NodeDecision]]:
        """Yields what can be decided now: the node, unless its parent is missing, and all nodes that waited for it."""
        parent = self._nodes[result.segment].parent
        if parent is not None and parent not in self._decisions:
            self._waiting.setdefault(parent, []).append(result)
            return
        decision = self._decisions[result.segment] = self._decide(result)
        yield result, decision
        for child in self._waiting.pop(result.segment, ()):
            yield from self.take(child)

    def examine(self) -> tuple[dict[str, NodeDecision], FleetReport | None]:
        """The decisions on all nodes, parents first, and the report of the examination, if there was one."""
        decided = [node for node in self._nodes.values() if node.segment in self._decisions]
        global_serves = any(node.parent is None and self._decisions[node.segment].serves for node in decided)
        served = dict(enumerate(self._served))
        report = None if self._deepest is not None else _examine(self._spec, served, self._rows, global_serves)
        floor = report.deepest_level if report is not None else self._deepest or 0
        if report is not None:
            objections = report.objections
        else:
            stands = f"since the last exam of the whole fleet nothing finer than {_describe_level(self._spec, floor)} serves"
            objections = (stands if global_serves else _NO_GLOBAL_MODEL,) * floor
        return {
            node.segment: _step_back(self._decisions[node.segment], objections[node.level], global_serves)
            if node.level < floor
            else self._decisions[node.segment]
            for node in sorted(decided, key=lambda node: -node.level)
        }, report

    def _decide(self, result: SegmentResult) -> NodeDecision:
        node, serves_now = self._nodes[result.segment], result.segment in self._serving
        # A parent of which only some rows are here is taken as it stands.
        if self._deepest is not None and result.outcome == "scored":
            decision, scores = _keep_node(node, result, serves_now)
        else:
            above = self._served[node.level + 1]
            decision, scores = _decide_node(self._spec, node, result, self._rows, above, serves_now)
        if scores is not None:
            places = np.concatenate([self._rows.of(node, HOLDOUT), self._rows.of(node, EXAM)])
            for level in range(node.level + 1):
                self._served[level][places] = scores
        return decision


def decide_fleet(
    spec: ModelLineSpec,
    nodes: Sequence[Node],
    results: Mapping[str, SegmentResult],
    rows: LaterRows,
    serving: frozenset[str],
    deepest: int | None,
) -> tuple[dict[str, NodeDecision], FleetReport | None]:
    """Decides for every node in `results` whether its challenger is promoted and whether it serves itself.

    With a node its ancestors have results. See `FleetGate` for the arguments.

    Returns:
        A decision for each node in `results`, and the report of the examination, if there was one.
    """
    gate = FleetGate(spec, nodes, rows, serving, deepest)
    for result in results.values():
        deque(gate.take(result), maxlen=0)
    return gate.examine()


def _keep_later(nodes: Sequence[Node], rows: LaterRows) -> tuple[dict[str, Node], LaterRows]:
    """The nodes, and of the rows those that a decision looks at: a small part of all."""
    later = np.flatnonzero((rows.parts == HOLDOUT) | (rows.parts == EXAM))
    starts = np.searchsorted(later, [node.start for node in nodes]).tolist()
    ends = np.searchsorted(later, [node.start + node.length for node in nodes]).tolist()
    kept = {
        node.segment: replace(node, start=start, length=end - start)
        for node, start, end in zip(nodes, starts, ends, strict=True)
    }
    return kept, LaterRows(rows.labels[later], rows.parts[later], rows.days[later])


def _keep_node(node: Node, result: SegmentResult, serves_now: bool) -> tuple[NodeDecision, np.ndarray | None]:
    """A node that serves as it did, for its children to be compared with."""
    decision = NodeDecision(node.segment, result.outcome, False, serves_now, "As it stood.", None, None, None)
    return decision, result.reigning_scores if serves_now else None


def _decide_node(
    spec: ModelLineSpec,
    node: Node,
    result: SegmentResult,
    rows: LaterRows,
    parent_scores: np.ndarray,
    serves_now: bool,
) -> tuple[NodeDecision, np.ndarray | None]:
    """Decides one node, and gives the scores of its own model on its later rows if that serves them."""
    judged = rows.of(node, HOLDOUT)
    own = _choose_own(spec, result)
    labels, above = rows.labels[judged], parent_scores[judged]
    parent_value = evaluate_metric(spec.metric, labels, above) if node.parent is not None else float("nan")
    if own.scores is None:
        return _decision(
            node, result, own, promote=False, serves=False, reason=own.objection, parent_value=parent_value
        ), None
    if node.parent is None or not np.isfinite(above).all():
        objection = ""
    elif len(judged) < LEAST_ROWS:
        # Nothing new to say: what served goes on, and a challenger has to wait.
        serves = serves_now and not own.is_challenger
        objection = "" if serves else f"{len(judged)} holdout rows are too few to tell it from its parent"
    else:
        objection = compare_with_parent(spec, labels, own.scores[: len(judged)], above, rows.days[judged])
    if objection:
        reason = f"Left to its parent: {objection}."
        return _decision(node, result, own, promote=False, serves=False, reason=reason, parent_value=parent_value), None
    promote = own.is_challenger
    reason = own.gate.reason if own.gate is not None else own.objection
    decision = _decision(node, result, own, promote=promote, serves=True, reason=reason, parent_value=parent_value)
    return decision, own.scores


def _choose_own(spec: ModelLineSpec, result: SegmentResult) -> _Candidate:
    """The node's challenger if it passes the gate, else its reigning model, else nothing."""
    if result.trained is None or result.outcome != "fitted":
        standing = "Not trained again: what it learns from is the same." if result.reigning_scores is not None else ""
        reason = result.reason or standing or "No model of its own."
        return _Candidate(None, result.reigning_scores, is_challenger=False, objection=reason)
    gate = decide_promotion(spec, result.trained.evaluation, result.reigning)
    if gate.promote:
        return _Candidate(gate, result.scores, is_challenger=True, objection="")
    return _Candidate(gate, result.reigning_scores, is_challenger=False, objection=gate.reason)


def compare_with_parent(
    spec: ModelLineSpec,
    labels: np.ndarray,
    own: np.ndarray,
    parent: np.ndarray,
    days: np.ndarray,
    called: str = "the parent",
) -> str:
    """Why the parent, called so, goes on serving, as half a sentence; empty when `own` is better beyond doubt."""
    gains = evaluate_row_losses(spec.metric, labels, parent) - evaluate_row_losses(spec.metric, labels, own)
    gain, doubt = estimate_gain(gains, days)
    if gain <= 0:
        return f"on {len(gains):,} later rows the error of {called} is smaller by {-gain:.4g} a row"
    if doubt > 1 - spec.segments.confidence:
        return (
            f"a gain of {gain:.4g} a row over {called} on {len(gains):,} later rows may be chance"
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


def _examine(spec: ModelLineSpec, served: Mapping[int, np.ndarray], rows: LaterRows, global_serves: bool) -> FleetReport:
    """The whole fleet on rows that no choice has seen, at every depth."""
    top = len(spec.levels) - 1
    # Where the global model does not serve there is nothing to compare with.
    examined = np.flatnonzero(rows.parts == EXAM) if global_serves else np.empty(0, dtype=np.intp)
    labels, days = rows.labels[examined], rows.days[examined]
    scores = [served[level][examined] for level in range(top + 1)]
    best, objections = top, [_NO_GLOBAL_MODEL] * top
    if global_serves:
        for level in range(top - 1, -1, -1):
            objections[level] = _object_to_depth(spec, labels, days, scores, level, best)
            best = best if objections[level] else level
    value, global_value = (evaluate_metric(spec.metric, labels, scores[level]) for level in (best, top))
    return FleetReport(spec.metric, len(examined), value, global_value, best, tuple(objections))


def _object_to_depth(
    spec: ModelLineSpec, labels: np.ndarray, days: np.ndarray, scores: Sequence[np.ndarray], level: int, best: int
) -> str:
    """Why the fleet does not go down to a level, as half a sentence; empty when it is better than down to `best`."""
    if not len(labels):
        return "the fleet cannot be examined, as no row of its exam has a label yet"
    value, shallower = (evaluate_metric(spec.metric, labels, scores[depth]) for depth in (level, best))
    if not np.isfinite(value):
        return f"the fleet cannot be examined, as {spec.metric} is undefined on the {len(labels):,} rows of its exam"
    exam = f"on {len(labels):,} rows of the exam the fleet"
    if value <= shallower if spec.higher_is_better else value >= shallower:
        return (
            f"{exam} is no better with models as fine as this ({spec.metric} {value:.4f}) than with nothing finer than"
            f" {_describe_level(spec, best)} ({shallower:.4f})"
        )
    doubt = compare_with_parent(spec, labels, scores[level], scores[-1], days, "the global model alone")
    return f"{exam} has {spec.metric} {value:.4f} with models as fine as this, but {doubt}" if doubt else ""


def _describe_level(spec: ModelLineSpec, level: int) -> str:
    columns = spec.levels[level]
    return f"a model for each {', '.join(columns)}" if columns else "the global model"


def _step_back(decision: NodeDecision, objection: str, global_serves: bool) -> NodeDecision:
    """A node below the depth that serves best: its parent serves, if any does, however good it looked by itself."""
    if not decision.serves:
        return decision
    return decision.stand_back(f"{'Left to its parent' if global_serves else 'Not served'}: {objection}.")


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
