"""What a cycle leaves behind, in the order that survives a kill: model file, MLflow, versions, the cycle, the decisions.

The decisions of all segments are one Delta commit, and it comes last: whatever dies before it, every segment keeps its old
champion; from it on, every segment has its new one. What comes after (aliases in MLflow) is done again by the next cycle.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from pathlib import Path

import numpy as np

from factory_assets.contracts.fleet import FleetReport, NodeDecision
from factory_assets.contracts.model_versions import LineStanding, ModelVersion
from factory_assets.contracts.reports import PromotionDecision
from factory_assets.contracts.segments import ALL
from factory_assets.core.models.artefacts import AnyModel, stream_bundle
from factory_assets.core.serving.fleet_scoring import ServingModel
from factory_assets.core.training.fit import TrainedModel
from factory_assets.core.training.segment_training import SegmentResult
from factory_assets.core.training.time_split import HOLDOUT, TRAIN
from factory_assets.lines.holdouts import gather_holdouts
from factory_assets.lines.packages import estimator_packages
from factory_assets.lines.planning import Plan
from factory_assets.lines.segment_entries import SegmentEntries, describe_line, finite, search_params
from factory_assets.lines.segment_files import write_outcomes, write_searches
from factory_assets.lines.serving import Bundles, flatten, serving_model
from factory_assets.lines.setting_aside import SetAside
from factory_assets.lines.stores import LineStores
from factory_assets.storage.git import read_git_commit
from factory_assets.storage.mlflow.registry import RegisteredVersion, TrainingRecord, serving_list
from factory_assets.storage.mlflow.segments import MlflowSegments
from factory_assets.storage.tables.drift_samples import TrainingSample
from factory_assets.storage.tables.training_cycles import TrainingCycle
from factory_assets.storage.tables.training_sets import TrainingSet

_EXAMPLE_ROWS = 50


@dataclass(frozen=True)
class Cycle:
    """A cycle that was fitted and decided, and is to be recorded. `key` names it, `inputs` finds it before a row is read."""

    key: str
    inputs: str
    training_set: TrainingSet
    plan: Plan
    results: Mapping[str, SegmentResult]
    aside: SetAside
    entries: SegmentEntries
    cpu_seconds: Mapping[str, float]
    pictures: Mapping[str, bytes]
    decisions: Mapping[str, NodeDecision]
    report: FleetReport | None
    before: LineStanding
    deepest_level: int
    now: datetime
    run_id: str

    @property
    def fitted(self) -> dict[str, tuple[TrainedModel, AnyModel]]:
        """What was fitted, by segment."""
        return {
            segment: (result.trained, result.model)
            for segment, result in self.results.items()
            if result.trained is not None and result.model is not None
        }


def record_cycle(stores: LineStores, cycle: Cycle, bundles: Bundles) -> TrainingCycle:
    """Records a cycle up to its decisions; done again after a kill it gives the same version.

    Raises:
        PromotionConflictError: when somebody else decided on the line meanwhile; nothing has taken effect then.
    """
    models, serving = _gather_models(stores, cycle, bundles)
    artefact_path, _ = stores.artefacts.write(stores.spec.name, stream_bundle(models))
    fleet = stores.registry.log_training(_describe(stores, cycle, stores.artefacts.path(artefact_path), serving))
    runs = cycle.entries.settle(fleet, cycle.results, cycle.decisions)
    kept = {segment: trained for segment, (trained, packed) in cycle.fitted.items() if packed.sha256 in models}
    stores.references.record(
        stores.spec.name,
        fleet.version,
        cycle.aside.references(kept),
        {segment: trained.profile for segment, trained in kept.items()},
    )
    _keep_holdouts(stores, cycle, fleet.version, kept)
    _keep_sample(stores, cycle, fleet.version)
    stores.versions.record(_version_rows(stores, cycle, models, artefact_path, fleet, runs))
    recorded = _cycle_row(stores, cycle, artefact_path, fleet)
    stores.cycles.record(recorded)
    standings = cycle.before.segments
    rows = [
        (decision, cycle.plan.cycles[segment] if segment in cycle.plan.to_fit else standings[segment].cycle)
        for segment, decision in list_changes(cycle.decisions, cycle.before, cycle.plan.to_fit).items()
    ]
    stores.versions.decide(cycle.before, fleet.version, rows, cycle.now, cycle.run_id)
    return recorded


def _keep_holdouts(stores: LineStores, cycle: Cycle, version: int, kept: Mapping[str, TrainedModel]) -> None:
    """The holdouts of parents, which serve a part of their rows once segments serve themselves."""
    scores = {segment: cycle.results[segment].scores for segment in kept}
    holdouts = gather_holdouts(cycle.plan, {segment: found for segment, found in scores.items() if found is not None})
    serving = {segment: champion.version for segment, champion in cycle.before.serving.items()}
    stores.holdout_scores.record(stores.spec.name, version, holdouts, serving)


def _keep_sample(stores: LineStores, cycle: Cycle, version: int) -> None:
    """Some training rows of the model of all rows, where the line compares what hangs together."""
    joint = stores.spec.drift.joint
    if joint is None or ALL not in cycle.fitted:
        return
    trained, _ = cycle.fitted[ALL]
    places = np.flatnonzero(cycle.plan.parts == TRAIN)
    size = min(joint.rows, len(places))
    chosen = np.sort(np.random.default_rng(stores.spec.validation.seed).choice(places, size, replace=False))
    frame = cycle.plan.table.take(chosen).to_pandas()
    sample = TrainingSample(frame, cycle.plan.rows.days[chosen], size / len(places))
    champion = cycle.before.serving.get(ALL)
    serving = champion.version if champion is not None else None
    stores.drift_samples.record(stores.spec.name, version, sample, trained.numeric, trained.categorical, serving)


def show_decisions(stores: LineStores, version: int) -> None:
    """Brings MLflow's tags and aliases in line with what was decided; safe to do at any time."""
    spec = stores.spec
    standing = stores.versions.standing(spec.name)
    rows = stores.versions.decisions_on(spec.name, version)
    decision = summarise_decisions(rows)
    stores.registry.record_decision(spec.name, version, decision.promote, decision.reason)
    if standing.serving_version:
        stores.registry.set_champion(spec.name, standing.serving_version)
    if spec.segment_by and spec.mlflow.per_segment == "changed":
        serving = {segment: champion.version for segment, champion in standing.serving.items()}
        MlflowSegments(stores.registry, spec.name).point_champions(serving, (row["segment"] for row in rows))


def summarise_decisions(rows: list[dict[str, object]]) -> PromotionDecision:
    """One decision for the whole line: the root's own words, and counts of the segments where there are any."""
    root = next((row for row in rows if row["segment"] == ALL), None)
    below = [row for row in rows if row["segment"] != ALL]
    promote = any(row["changed"] for row in rows)
    reason = str(root["reason"]) if root is not None else ""
    if below:
        promoted = sum(bool(row["promoted"]) for row in below)
        failed = sum(row["outcome"] == "failed" for row in below)
        fitted = sum(row["outcome"] == "fitted" for row in below)
        left = len(below) - fitted - failed
        counted = f"{promoted} of {fitted:,} fitted segments promoted, {failed} failed, {left:,} not fitted."
        reason = f"{counted} All rows: {reason}" if reason else counted
    value = float(str(root["challenger_value"])) if root is not None and root["challenger_value"] is not None else np.nan
    against = float(str(root["champion_value"])) if root is not None and root["champion_value"] is not None else None
    return PromotionDecision(promote, reason or "Nothing was decided.", value, against)


def list_changes(
    decisions: Mapping[str, NodeDecision], before: LineStanding, trained: frozenset[str]
) -> dict[str, NodeDecision]:
    """What is written down: every trained segment, and those that are served differently from now on."""
    found = {}
    for segment, decision in decisions.items():
        standing = before.segments.get(segment)
        if segment in trained or (standing is not None and standing.serves != decision.serves):
            found[segment] = (
                decision.keep_outcome(standing.outcome) if standing and decision.outcome == "scored" else decision
            )
    return found


def _gather_models(stores: LineStores, cycle: Cycle, bundles: Bundles) -> tuple[dict[str, AnyModel], list[ServingModel]]:
    """The models of the new file by hash: all that serve after this cycle, and always the newest model of all rows."""
    models: dict[str, AnyModel] = {}
    serving: dict[str, ServingModel] = {}
    for segment, champion in cycle.before.serving.items():
        decision = cycle.decisions.get(segment)
        if decision is None or (decision.serves and not decision.promote):
            packed = bundles.packed(champion.artefact_path, champion.artefact_sha256)
            if packed is not None:
                models[packed.sha256], serving[segment] = packed, serving_model(champion)
    standings = cycle.before.segments
    for segment, decision in cycle.decisions.items():
        standing = standings.get(segment)
        if decision.promote:
            _, packed = cycle.fitted[segment]
            models[packed.sha256], serving[segment] = packed, _as_serving(cycle, segment)
        elif decision.serves and segment not in serving and standing is not None and standing.champion is not None:
            # It had stepped back for its parent, and serves again.
            packed = bundles.packed(standing.champion.artefact_path, standing.champion.artefact_sha256)
            if packed is not None:
                models[packed.sha256], serving[segment] = packed, serving_model(standing.champion)
    if ALL in cycle.fitted:
        _, packed = cycle.fitted[ALL]
        models[packed.sha256] = packed
        if not stores.spec.segment_by:
            # A line of one model: its version in MLflow is the challenger, whether or not it serves.
            serving[ALL] = _as_serving(cycle, ALL)
    return models, list(serving.values())


def _as_serving(cycle: Cycle, segment: str) -> ServingModel:
    trained, packed = cycle.fitted[segment]
    return ServingModel(segment, packed.sha256, trained.numeric, trained.categorical)


def _version_rows(
    stores: LineStores,
    cycle: Cycle,
    models: Mapping[str, AnyModel],
    artefact_path: str,
    fleet: RegisteredVersion,
    runs: Mapping[str, str],
) -> list[ModelVersion]:
    spec, training_set = stores.spec, cycle.training_set
    commit, sklearn = read_git_commit(), package_version("scikit-learn")
    return [
        ModelVersion(
            line=spec.name,
            segment=segment,
            version=fleet.version,
            cycle=cycle.plan.cycles[segment],
            trained_at_utc=cycle.now,
            trained_until_utc=training_set.as_known_at_utc - spec.validation.holdout,
            holdout_until_utc=training_set.as_known_at_utc,
            training_set_version=training_set.table.version,
            feature_set_version=training_set.feature_set.version,
            label_version=training_set.labels.version,
            evaluation=trained.evaluation,
            numeric=trained.numeric,
            categorical=trained.categorical,
            artefact_path=artefact_path if packed.sha256 in models else "",
            artefact_sha256=packed.sha256,
            estimator=spec.estimator,
            sklearn_version=sklearn,
            git_commit=commit,
            mlflow_run_id=runs.get(segment, fleet.run_id),
            dagster_run_id=cycle.run_id,
        )
        for segment, (trained, packed) in cycle.fitted.items()
    ]


def _cycle_row(stores: LineStores, cycle: Cycle, artefact_path: str, fleet: RegisteredVersion) -> TrainingCycle:
    report = cycle.report
    return TrainingCycle(
        line=stores.spec.name,
        inputs=cycle.inputs,
        version=fleet.version,
        sequence=cycle.before.sequence + 1,
        cycle=cycle.key,
        training_set_version=cycle.training_set.table.version,
        segments=len(cycle.results),
        fitted=len(cycle.fitted),
        failed=sum(result.outcome == "failed" for result in cycle.results.values()),
        metric=stores.spec.metric,
        exam_rows=report.rows if report else None,
        fleet_value=report.value if report else None,
        global_value=report.global_value if report else None,
        deepest_level=cycle.deepest_level,
        artefact_path=artefact_path,
        mlflow_run_id=fleet.run_id,
        recorded_at_utc=datetime.now(UTC),
    )


def _describe(stores: LineStores, cycle: Cycle, bundle: Path, serving: list[ServingModel]) -> TrainingRecord:
    spec, training_set, plan = stores.spec, cycle.training_set, cycle.plan
    root = cycle.results.get(ALL)
    trained = root.trained if root is not None else None
    files = {**(write_outcomes(cycle.decisions) if spec.segment_by else {}), **write_searches(cycle.fitted)}
    reads = dict.fromkeys((*(c for level in spec.levels for c in level), *plan.job.numeric, *plan.job.categorical))
    for model in serving:
        reads |= dict.fromkeys((*model.numeric, *model.categorical))
    example = plan.table.select([c for c in reads if c in plan.table.column_names]).slice(0, _EXAMPLE_ROWS).to_pandas()
    return TrainingRecord(
        line=spec.name,
        cycle=cycle.key,
        params={
            "estimator": spec.estimator,
            **{f"estimator.{name}": str(value) for name, value in spec.params.items()},
            "features": str(len(plan.job.numeric) + len(plan.job.categorical)),
            "train_rows": str(int(np.count_nonzero(plan.parts == TRAIN))),
            "holdout_rows": str(int(np.count_nonzero(plan.parts == HOLDOUT))),
            "trained_until_utc": (training_set.as_known_at_utc - spec.validation.holdout).isoformat(),
            "seed": str(spec.validation.seed),
            **search_params(spec, trained),
        },
        metrics={**(_root_metrics(trained) if trained is not None else {}), **_fleet_metrics(cycle)},
        tags={
            "factory.line": spec.name,
            **({"factory.artefact_sha256": root.model.sha256} if root is not None and root.model is not None else {}),
            "factory.git_commit": read_git_commit(),
            "factory.dagster_run_id": cycle.run_id,
            "factory.training_set_version": str(training_set.table.version),
            "factory.feature_set_version": str(training_set.feature_set.version),
        },
        pictures={**cycle.pictures, **files},
        inputs=[
            (training_set.table, "training"),
            (training_set.feature_set, "features"),
            (training_set.labels, "labels"),
        ],
        bundle=bundle,
        serving=serving_list(spec.levels, spec.task, serving),
        example=example,
        example_scores=np.zeros(len(example)),
        description=describe_line(spec),
        estimator_packages=estimator_packages(spec.estimator),
    )


def _root_metrics(trained: TrainedModel) -> dict[str, float]:
    evaluation = trained.evaluation
    return {**evaluation.scores, **flatten(evaluation.baseline, "baseline"), **flatten(evaluation.dummy, "dummy")}


def _fleet_metrics(cycle: Cycle) -> dict[str, float]:
    """The fleet as a whole beside its global model, and how many segments were trained, failed, and serve themselves."""
    if not cycle.plan.job.spec.segment_by:
        return {}
    counts: dict[str, float] = {
        "segments_fitted": len(cycle.fitted),
        "segments_failed": sum(result.outcome == "failed" for result in cycle.results.values()),
        "segments_serving": sum(decision.serves for decision in cycle.decisions.values()),
    }
    report = cycle.report
    if report is None:
        return counts
    values = {f"fleet_{report.metric}": report.value, f"global_{report.metric}": report.global_value}
    return {**counts, **finite(values), "exam_rows": report.rows}
