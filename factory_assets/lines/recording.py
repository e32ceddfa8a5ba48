"""What a cycle leaves behind, in the order that survives a kill: model file, MLflow, versions, the cycle, the decisions.

The decisions of all segments are one Delta commit, and it comes last: whatever dies before it, every segment keeps its old
champion; from it on, every segment has its new one. What comes after (aliases in MLflow) is done again by the next cycle.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version as package_version

import numpy as np

from factory_assets.contracts.model_versions import ModelVersion
from factory_assets.contracts.segments import ALL
from factory_assets.core.models.artefacts import AnyModel, stream_bundle
from factory_assets.core.serving.fleet_scoring import ServingModel
from factory_assets.core.training.fit import TrainedModel
from factory_assets.core.training.time_split import TRAIN
from factory_assets.lines.cycle import Cycle
from factory_assets.lines.decisions import list_changes
from factory_assets.lines.holdouts import gather_holdouts
from factory_assets.lines.serving import Bundles, serving_model
from factory_assets.lines.stores import LineStores
from factory_assets.lines.training_record import describe_training
from factory_assets.storage.git import read_git_commit
from factory_assets.storage.mlflow.registry import RegisteredVersion
from factory_assets.storage.tables.drift_samples import TrainingSample
from factory_assets.storage.tables.training_cycles import TrainingCycle


def record_cycle(stores: LineStores, cycle: Cycle, bundles: Bundles) -> TrainingCycle:
    """Records a cycle up to its decisions; done again after a kill it gives the same version.

    Raises:
        PromotionConflictError: when somebody else decided on the line meanwhile; nothing has taken effect then.
    """
    models, serving = _gather_models(stores, cycle, bundles)
    artefact_path, _ = stores.artefacts.write(stores.spec.name, stream_bundle(models))
    fleet = stores.registry.log_training(describe_training(stores, cycle, stores.artefacts.path(artefact_path), serving))
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
