"""Which level of a fleet serves each segment: decided on later rows by the gate, never by the declaration.

The rules. The newest labelled rows are parted in two. On the *holdout* each node's challenger meets the dummy, the line's
bounds and the reigning model, as everywhere; the better of the two then serves only if it also beats whatever serves the
node's parent, on the same rows, by a paired one-sided test of the row losses at `segments.confidence`. Without that
test a thousand coin tosses would be won by noise, and the fleet would be worse than its global model. Rows of one day
share its weather and its traffic, so the days are what is counted, not the rows.

Then the fleet as a whole is judged on the *exam*, which no such choice has seen: see `exam`.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from factory_assets.contracts.fleet import FleetReport, NodeDecision
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.reports import PromotionDecision
from factory_assets.core.metrics import evaluate_metric
from factory_assets.core.segments import Node
from factory_assets.core.serving.exam import examine_fleet, keep_depth
from factory_assets.core.serving.paired_test import compare_with_parent
from factory_assets.core.serving.promotion import decide_promotion
from factory_assets.core.training.segment_training import SegmentResult
from factory_assets.core.training.time_split import EXAM, HOLDOUT

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
        report = None if self._deepest is not None else self._hold_exam(global_serves)
        floor = report.deepest_level if report is not None else self._deepest or 0
        objections = report.objections if report is not None else keep_depth(self._spec, floor, global_serves)
        return {
            node.segment: _step_back(self._decisions[node.segment], objections[node.level], global_serves)
            if node.level < floor
            else self._decisions[node.segment]
            for node in sorted(decided, key=lambda node: -node.level)
        }, report

    def _hold_exam(self, global_serves: bool) -> FleetReport:
        # Where the global model has no score there is nothing to compare with.
        rows = np.flatnonzero((self._rows.parts == EXAM) & np.isfinite(self._served[self._top]))
        scores = [served[rows] for served in self._served[: self._top + 1]]
        return examine_fleet(self._spec, self._rows.labels[rows], self._rows.days[rows], scores, global_serves)

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
