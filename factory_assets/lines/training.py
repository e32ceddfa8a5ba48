"""One training cycle of a line: fit, decide, record. A line without segments is a fleet of one.

Each step can be done again and gives the same result.
"""

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from factory_assets.contracts.model_versions import LineStanding, ModelVersion
from factory_assets.contracts.reports import PromotionDecision
from factory_assets.contracts.segments import ALL
from factory_assets.core.serving.hierarchy import FleetGate
from factory_assets.core.training.segment_training import SegmentResult
from factory_assets.lines.cycle import Cycle
from factory_assets.lines.decisions import show_decisions, summarise_decisions
from factory_assets.lines.fingerprints import fingerprint_inputs
from factory_assets.lines.fitting import fit_plan
from factory_assets.lines.pictures import draw_root
from factory_assets.lines.planning import Plan, plan_cycle
from factory_assets.lines.recording import record_cycle
from factory_assets.lines.segment_entries import open_entries
from factory_assets.lines.serving import Bundles
from factory_assets.lines.setting_aside import SetAside
from factory_assets.lines.stores import LineStores
from factory_assets.storage.tables.training_cycles import TrainingCycle
from factory_assets.storage.tables.training_sets import TrainingSet


@dataclass(frozen=True)
class TrainingOutcome:
    """What a cycle gave.

    `version` is the model of all rows: trained in this cycle, or its champion where the cycle trained only segments.
    `decision` speaks for the line, `decisions` are the rows of `ops/promotions` of this cycle, `cycle` its record, and
    `pictures` are PNG files by name, `cpu_seconds` what each segment's own training took. `fitted` tells whether anything
    was trained.
    """

    version: ModelVersion
    decision: PromotionDecision
    fitted: bool
    cycle: TrainingCycle
    decisions: tuple[dict[str, Any], ...] = ()
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)


def train_line(stores: LineStores, now: datetime, run_id: str, segments: Iterable[str] = ()) -> TrainingOutcome:
    """Trains what changed of the line on its newest training set, and lets the gate decide.

    A cycle is known by what goes into it: unchanged pinned tables, declaration and code train nothing and read no row, and
    of changed tables only segments whose own rows changed are trained. What failed is tried again. So a process killed
    anywhere is mended by running again, and every segment has its old champion or its new one at any moment.

    Args:
        stores: of the line.
        now: factory time.
        run_id: of the Dagster run.
        segments: keys to look at; none, or `all` among them, means the whole line, as does a line that was never trained.

    Raises:
        UnknownSegmentError: for a segment without a row.
        TrainingDataError: when the model of all rows cannot be trained.
        PromotionConflictError: when somebody else decided on the line meanwhile.
    """
    training_set = stores.training_sets.pin()
    before = stores.versions.standing(stores.spec.name)
    requested = frozenset(segments) if before.sequence else frozenset()
    requested = frozenset() if ALL in requested else requested
    inputs = fingerprint_inputs(stores.spec, training_set, requested)
    known = stores.cycles.find(stores.spec.name, inputs)
    if known is not None and _is_complete(stores, before, known):
        return _show(stores, known)
    newest = stores.cycles.newest(stores.spec.name, before.sequence)
    bundles = Bundles(stores.artefacts, newest.artefact_path if newest else "")
    plan = plan_cycle(stores, training_set, before, requested, bundles)
    if not plan.to_fit and newest is not None:
        # The same rows in another version of the table: the next look at it need not read them.
        stores.cycles.record(_seen_again(newest, inputs, training_set))
        return _show(stores, newest)
    cycle = _fit_and_decide(stores, training_set, before, plan, bundles, inputs, newest, requested, now, run_id)
    recorded = record_cycle(stores, cycle, bundles)
    outcome = _show(stores, recorded)
    return replace(outcome, fitted=True, cycle=recorded, pictures=cycle.pictures, cpu_seconds=cycle.cpu_seconds)


def _fit_and_decide(
    stores: LineStores,
    training_set: TrainingSet,
    before: LineStanding,
    plan: Plan,
    bundles: Bundles,
    inputs: str,
    newest: TrainingCycle | None,
    requested: frozenset[str],
    now: datetime,
    run_id: str,
) -> Cycle:
    # A cycle of some segments keeps the depth that the last examination of the whole fleet found best.
    deepest = newest.deepest_level if newest is not None and requested else None
    gate = FleetGate(stores.spec, plan.nodes, plan.rows, frozenset(before.serving), deepest)
    aside, key = SetAside(), _cycle_key(plan, before)
    drawing: list[Future[dict[str, bytes]]] = []

    # The model of all rows is fitted first: its pictures are drawn while the segments are.
    with ThreadPoolExecutor(1) as beside, open_entries(stores, plan, key, gate) as entries:

        def keep(result: SegmentResult) -> SegmentResult:
            kept = aside.keep(result)
            if kept.segment == ALL:
                drawing.append(beside.submit(draw_root, stores.spec, plan, kept))
            entries.take(kept)
            return kept

        fits = fit_plan(stores, plan, before, bundles, keep)
    decisions, report = gate.examine()
    return Cycle(
        key=key,
        inputs=inputs,
        training_set=training_set,
        plan=plan,
        results=fits.results,
        aside=aside,
        entries=entries,
        cpu_seconds=fits.cpu_seconds,
        pictures=drawing[0].result() if drawing else {},
        decisions=decisions,
        report=report if stores.spec.segment_by else None,
        before=before,
        deepest_level=report.deepest_level if report is not None else deepest or 0,
        now=now,
        run_id=run_id,
    )


def _cycle_key(plan: Plan, before: LineStanding) -> str:
    """Names the cycle: what is trained in it, after which decisions. Killed and run again it is the same cycle."""
    trained = sorted(f"{segment}:{plan.cycles[segment]}" for segment in plan.to_fit)
    return hashlib.sha256("\n".join([str(before.sequence), *trained]).encode()).hexdigest()


def _is_complete(stores: LineStores, before: LineStanding, known: TrainingCycle) -> bool:
    """Whether a cycle needs nothing more: it was decided, nothing failed in it, and the models that serve are there."""
    if (
        known.failed
        or known.sequence > before.sequence
        or not before.is_whole
        or not stores.artefacts.holds(known.artefact_path)
    ):
        return False
    newest = stores.cycles.newest(known.line, before.sequence)
    if newest is None or not stores.artefacts.holds(newest.artefact_path):
        return False
    return bool(stores.versions.decisions_on(known.line, known.version))


def _seen_again(newest: TrainingCycle, inputs: str, training_set: TrainingSet) -> TrainingCycle:
    return replace(newest, inputs=inputs, training_set_version=training_set.table.version)


def _show(stores: LineStores, cycle: TrainingCycle) -> TrainingOutcome:
    """MLflow in line with the decisions of a recorded cycle, and those decisions again."""
    show_decisions(stores, cycle.version)
    rows = stores.versions.decisions_on(cycle.line, cycle.version)
    trained = any(row["segment"] == ALL and row["outcome"] == "fitted" for row in rows)
    champion = None if trained else stores.versions.champion(cycle.line)
    version = champion or stores.versions.get(cycle.line, cycle.version)
    return TrainingOutcome(version, summarise_decisions(rows), False, cycle, tuple(rows))
