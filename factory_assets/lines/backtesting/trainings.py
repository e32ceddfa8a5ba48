"""Trainings of a replay, by the code that trains in production; one that two policies ask for is done once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import pyarrow as pa

from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.model_versions import LineStanding
from factory_assets.contracts.reports import PromotionDecision
from factory_assets.contracts.retraining import Outcome
from factory_assets.contracts.segments import ALL
from factory_assets.core.backtesting.moments import Moment
from factory_assets.core.segments import Node, lay_out
from factory_assets.core.serving.hierarchy import decide_fleet
from factory_assets.core.training.segment_training import SegmentResult
from factory_assets.lines.answers import list_answers
from factory_assets.lines.backtesting.history import History
from factory_assets.lines.backtesting.reigns import ModelShelf, Reign
from factory_assets.lines.decisions import summarise_decisions
from factory_assets.lines.fingerprints import fingerprint_declaration
from factory_assets.lines.fitting import Fits, fit_plan
from factory_assets.lines.planning import Plan, plan_rows
from factory_assets.lines.stores import LineStores
from factory_assets.storage.metering import own_cpu_seconds, take_sample


@dataclass(frozen=True)
class ReplayedCycle:
    """A cycle: who reigns after it, how it answers, its decisions as rows, and the CPU seconds it would take alone."""

    reign: Reign
    decision: PromotionDecision
    answers: Mapping[str, Outcome]
    rows: Sequence[dict[str, Any]]
    cpu_seconds: float


@dataclass(frozen=True)
class _Fit:
    """What a segment's training gave, without regard to who reigned; and its CPU seconds."""

    result: SegmentResult
    cpu_seconds: float


@dataclass
class Trainings:
    """Every training of a backtest, shared among policies: known by segment, rows, declaration, and end of the holdout.

    `fits` and `fit_cpu_seconds` count what was really fitted.
    """

    stores: LineStores
    history: History
    shelf: ModelShelf = field(default_factory=ModelShelf)
    fits: int = 0
    fit_cpu_seconds: float = 0.0
    _known: dict[tuple[str, str, datetime], _Fit] = field(default_factory=dict)

    @property
    def known(self) -> tuple[tuple[str, str, datetime], ...]:
        """What was fitted: segment, fingerprint of its rows and declaration, and end of the holdout."""
        return tuple(self._known)

    def train(
        self, spec: ModelLineSpec, moment: Moment, reign: Reign, requested: Sequence[str], last: ReplayedCycle | None
    ) -> ReplayedCycle:
        """One cycle at a moment: what changed is trained on what was known then, and the gate decides.

        Args:
            spec: the line, with the strategy of the request applied.
            moment: when.
            reign: who serves until now.
            requested: segments to look at; none means all.
            last: the cycle before, which stands when nothing has changed since.

        Raises:
            TrainingDataError: when the model of all rows cannot be trained.
        """
        before = reign.standing
        wanted = frozenset(requested) if before.sequence else frozenset()
        wanted = frozenset() if ALL in wanted else wanted
        started = self._used_cpu_seconds()
        plan = self._plan(spec, moment, before, wanted)
        planning_seconds = self._used_cpu_seconds() - started
        if not plan.to_fit and last is not None:
            return replace(last, reign=reign, rows=(), cpu_seconds=planning_seconds)
        fitted, fitting_seconds = self._fit(plan, moment)
        started = self._used_cpu_seconds()
        scored = fit_plan(self.stores, replace(plan, to_fit=frozenset()), before, self.shelf)
        results = {segment: _join(result, fitted.get(segment)) for segment, result in scored.results.items()}
        deepest = reign.deepest_level if wanted else None
        serving = frozenset(before.serving)
        decisions, report = decide_fleet(spec, plan.nodes, results, plan.rows, serving, deepest)
        gate_seconds = self._used_cpu_seconds() - started
        level = report.deepest_level if report is not None else deepest or 0
        after, rows = reign.decide(plan, results, decisions, moment.now, level)
        decision = summarise_decisions(rows)
        answers = list_answers(decision, rows, after.standing.sequence)
        return ReplayedCycle(after, decision, answers, rows, planning_seconds + fitting_seconds + gate_seconds)

    def _plan(self, spec: ModelLineSpec, moment: Moment, before: LineStanding, wanted: frozenset[str]) -> Plan:
        """As production plans, but rows that no fit of a line of one model can see are left out, and not fingerprinted.

        Rows only ever join a replay's history, so their number names them.
        """
        validation = spec.validation
        window = None if spec.segment_by else validation.window
        since = moment.now - validation.holdout - window if window else None
        rows, count = self.history.learnable(moment, since)
        declared = fingerprint_declaration(spec)

        def name_by_count(table: pa.Table, nodes: Sequence[Node]) -> Mapping[str, str]:
            return {node.segment: f"{count}:{declared}" for node in nodes}

        by_count = None if spec.segment_by else name_by_count
        table, nodes = lay_out(rows, spec.levels)
        return plan_rows(spec, table, nodes, moment.now, before, wanted, self.shelf, fingerprint=by_count)

    def _fit(self, plan: Plan, moment: Moment) -> tuple[dict[str, _Fit], float]:
        """The fits of a plan, done now or before, and the CPU seconds of all of them."""
        keys = {segment: (segment, plan.cycles[segment], moment.now) for segment in plan.to_fit}
        missing = frozenset(segment for segment, key in keys.items() if key not in self._known)
        if missing:
            nobody = LineStanding(plan.job.spec.name)
            started = self._used_cpu_seconds()
            fits = fit_plan(self.stores, replace(plan, to_fit=missing), nobody, self.shelf)
            self._take_down(fits, keys, missing, self._used_cpu_seconds() - started)
        fitted = {segment: self._known[key] for segment, key in keys.items()}
        return fitted, sum(fit.cpu_seconds for fit in fitted.values())

    def _used_cpu_seconds(self) -> float:
        """So far; of a fleet with its workers, which are counted by a look at all processes."""
        return take_sample().cpu_seconds if self.history.spec.segment_by else own_cpu_seconds()

    def _take_down(
        self, fits: Fits, keys: Mapping[str, tuple[str, str, datetime]], missing: frozenset[str], cpu_seconds: float
    ) -> None:
        """Keeps what was fitted; a segment's CPU time is that of its own fit, and an equal share of the rest."""
        rest = max(cpu_seconds - sum(fits.cpu_seconds.values()), 0.0) / len(missing)
        for segment in missing:
            result = fits.results[segment]
            if result.model is not None:
                self.shelf.put(result.model)
            self._known[keys[segment]] = _Fit(result, fits.cpu_seconds.get(segment, 0.0) + rest)
        self.fits += sum(fits.results[segment].outcome == "fitted" for segment in missing)
        self.fit_cpu_seconds += cpu_seconds


def _join(scored: SegmentResult, fit: _Fit | None) -> SegmentResult:
    """A fit beside the reigning model's scores on the same later rows, as one training in production gives them."""
    if fit is None:
        return scored
    return replace(fit.result, reigning_scores=scored.reigning_scores, reigning=scored.reigning)
