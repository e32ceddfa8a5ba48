"""The entries of a cycle's segments in MLflow: written one by one while others are still fitted, and settled at the end.

A segment is decided as soon as its result and its parent's decision are there, and then its run is written: the process
that waits for its workers has nothing better to do. What makes a model serve, or says that it does, waits for the
decisions of all.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from factory_assets.contracts.fleet import NodeDecision
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.segments import ALL
from factory_assets.core.serving.hierarchy import FleetGate
from factory_assets.core.training.fit import TrainedModel
from factory_assets.core.training.segment_training import SegmentResult
from factory_assets.lines.planning import Plan
from factory_assets.lines.stores import LineStores
from factory_assets.storage.mlflow.registry import RegisteredVersion
from factory_assets.storage.mlflow.segments import MlflowSegments, SegmentRecord, SegmentRuns

# So many runs are written a result: enough that those which waited for their parent are written before the fits end, few
# enough that no worker waits to be heard.
_RUNS_A_RESULT = 2


@dataclass
class SegmentEntries:
    """The entries of one cycle, or none where the line has none; see `open_entries`."""

    spec: ModelLineSpec
    gate: FleetGate
    levels: Mapping[str, int]
    window: MlflowSegments
    runs: SegmentRuns | None
    _waiting: deque[SegmentRecord] = field(default_factory=deque)
    _told: dict[str, NodeDecision] = field(default_factory=dict)

    def take(self, result: SegmentResult) -> None:
        """Has the gate decide what it can, and writes some of the runs that wait."""
        for decided, decision in self.gate.take(result):
            if self.runs is not None and decided.segment != ALL and decided.trained is not None:
                self._waiting.append(self._describe(decided, decision))
                self._told[decided.segment] = decision
        for _ in range(min(_RUNS_A_RESULT, len(self._waiting))):
            self._log_next()

    def settle(
        self, fleet: RegisteredVersion, results: Mapping[str, SegmentResult], decisions: Mapping[str, NodeDecision]
    ) -> Mapping[str, str]:
        """Writes what is missing, and amends what the last look at all segments changed; returns the runs by segment."""
        if self.runs is None:
            return {}
        while self._waiting:
            self._log_next()
        amended = {segment for segment, decision in self._told.items() if decisions[segment] != decision}
        settled = [segment for segment in sorted(self._told) if segment in amended or decisions[segment].promote]
        records = [self._describe(results[segment], decisions[segment]) for segment in settled]
        self.window.log(fleet, self.runs, records, amended)
        return self.runs.ids

    def _log_next(self) -> None:
        assert self.runs is not None
        self.window.log_run(self.runs, self._waiting.popleft())

    def _describe(self, result: SegmentResult, decision: NodeDecision) -> SegmentRecord:
        trained, model, spec = result.trained, result.model, self.spec
        assert trained is not None
        assert model is not None
        parent = {} if decision.parent_value is None else {f"parent_{spec.metric}": decision.parent_value}
        return SegmentRecord(
            segment=result.segment,
            promoted=decision.promote,
            metrics={**finite(trained.evaluation.scores), **parent, "holdout_rows": trained.evaluation.rows},
            params=search_params(spec, trained),
            tags={
                "factory.estimator": spec.estimator,
                "factory.artefact_sha256": model.sha256,
                "factory.level": str(self.levels[result.segment]),
                "factory.gate": "promoted" if decision.promote else "kept_champion",
                "factory.gate_reason": decision.reason[:4000],
            },
        )


@contextmanager
def open_entries(stores: LineStores, plan: Plan, cycle: str, gate: FleetGate) -> Iterator[SegmentEntries]:
    """The entries of a cycle; what is raised while they are open is shown on its run as well."""
    spec = stores.spec
    window = MlflowSegments(stores.registry, spec.name)
    is_shown = bool(spec.segment_by) and spec.mlflow.per_segment != "none" and bool(plan.to_fit - {ALL})
    runs = window.open_runs(cycle, describe_line(spec)) if is_shown else None
    try:
        yield SegmentEntries(spec, gate, {node.segment: node.level for node in plan.nodes}, window, runs)
    except Exception:
        if runs is not None:
            stores.registry.fail_run(runs.parent)
        raise


def describe_line(spec: ModelLineSpec) -> str:
    """A line in MLflow."""
    return spec.description or f"Model line {spec.name}."


def search_params(spec: ModelLineSpec, trained: TrainedModel | None) -> dict[str, str]:
    """What was searched over, as it was fitted, and the winner's place in `searches.csv`; 0: the line's own parameters."""
    if spec.search is None or trained is None or trained.search is None:
        return {}
    chosen = {**spec.params, **trained.search.params}
    fitted = {f"search.{name}": str(chosen.get(name, "the estimator's default")) for name in spec.search.space}
    return {"search.candidate": str(trained.search.winner), **fitted}


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Without what MLflow cannot show."""
    return {name: value for name, value in metrics.items() if np.isfinite(value)}
