"""One training cycle of a line: fit, evaluate, record, gate. Each step can be done again and gives the same result."""

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version as package_version

import pandas as pd
from threadpoolctl import threadpool_limits

from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.reports import Evaluation, PromotionDecision
from factory_assets.core.artefacts import UntrustedArtefactError, digest, pack_models, pickle_model
from factory_assets.core.fingerprint import fingerprint_frame
from factory_assets.core.importance import feature_importance
from factory_assets.core.metrics import evaluate_metrics
from factory_assets.core.plots import plot_calibration, plot_importance, plot_predicted_against_actual
from factory_assets.core.promotion import decide_promotion
from factory_assets.core.training import TimeSplit, TrainedModel, fit_and_evaluate, split_by_time
from factory_assets.lines.serving import flatten, load_model
from factory_assets.lines.stores import LineStores
from factory_assets.storage.artefact_store import ArtefactMissingError
from factory_assets.storage.git import read_git_commit
from factory_assets.storage.mlflow_registry import TrainingRecord
from factory_assets.storage.model_versions import ONLY_SEGMENT, ModelVersion
from factory_assets.storage.training_sets import LABEL_COLUMN, TrainingSet

# Raised when the meaning of a training changes, so that an unchanged line is trained again.
TRAINING_CODE_VERSION = "1"
_TRAINING_FIELDS = (
    *("name", "feature_set", "entity", "as_of", "features", "label"),
    *("estimator", "params", "search", "sample_weight", "validation"),
)


@dataclass(frozen=True)
class TrainingOutcome:
    """What a cycle gave: the version, the gate's decision, whether anything was fitted, and the pictures to show."""

    version: ModelVersion
    decision: PromotionDecision
    fitted: bool
    pictures: dict[str, bytes]


def train_line(stores: LineStores, now: datetime, run_id: str) -> TrainingOutcome:
    """Trains the line on its newest training set and lets the gate decide.

    A cycle is known by what went into it (spec, rows, code): done before, nothing is fitted, and what is missing of its
    records is completed. So a process killed anywhere is mended by running again.
    """
    training_set = stores.training_sets.pin()
    frame = stores.training_sets.read(training_set.table).to_pandas()
    cycle = fingerprint_cycle(stores.spec, frame)
    version = stores.versions.find_cycle(stores.spec.name, cycle)
    if version is not None and not stores.artefacts.holds(version.artefact_path):
        version = None  # fitted again, the same bytes get the same version, and the file is back
    split = split_by_time(
        frame,
        stores.spec.as_of,
        stores.spec.validation.holdout,
        stores.spec.validation.window,
        stores.spec.validation.min_rows,
        # The same rows may be pinned again later; the version's own holdout is what its decision rests on.
        version.holdout_until_utc if version else training_set.as_known_at_utc,
    )
    pictures: dict[str, bytes] = {}
    fitted = version is None
    # One thread: OpenMP threads that wait for a core which another process holds made a 1 s fit take 20 s.
    with threadpool_limits(limits=1):
        if version is None:
            trained = fit_and_evaluate(stores.spec, split)
            pictures = _draw(stores.spec, trained, split)
            version = _record(stores, training_set, split, trained, pictures, cycle, now, run_id)
        decision = _gate(stores, training_set, version, split, now, run_id)
    return TrainingOutcome(version, decision, fitted, pictures)


def fingerprint_cycle(spec: ModelLineSpec, frame: pd.DataFrame) -> str:
    """What a training's result depends on, as one hash: the declaration, the rows, our code, and scikit-learn's."""
    declared = {name: value for name, value in spec.model_dump(mode="json").items() if name in _TRAINING_FIELDS}
    parts = {
        "spec": declared,
        "rows": fingerprint_frame(frame, list(spec.entity)),
        "code": TRAINING_CODE_VERSION,
        "sklearn": package_version("scikit-learn"),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _draw(spec: ModelLineSpec, trained: TrainedModel, split: TimeSplit) -> dict[str, bytes]:
    importance = feature_importance(
        trained.model,
        split.holdout,
        trained.holdout_labels,
        trained.numeric,
        trained.categorical,
        spec.task,
        spec.validation.seed,
    )
    fit_plot = plot_calibration if spec.task == "classification" else plot_predicted_against_actual
    fit_name = "calibration.png" if spec.task == "classification" else "predicted_against_actual.png"
    return {
        fit_name: fit_plot(trained.holdout_labels, trained.holdout_scores),
        "importance.png": plot_importance(list(importance), list(importance.values())),
    }


def _record(
    stores: LineStores,
    training_set: TrainingSet,
    split: TimeSplit,
    trained: TrainedModel,
    pictures: dict[str, bytes],
    cycle: str,
    now: datetime,
    run_id: str,
) -> ModelVersion:
    """Artefact first, then MLflow (which numbers the version), then Delta: what is recorded can always be loaded."""
    spec = stores.spec
    pickled = pickle_model(trained.model)
    bundle = pack_models({ONLY_SEGMENT: pickled})
    artefact_path, _ = stores.artefacts.write(spec.name, bundle)
    version = ModelVersion(
        line=spec.name,
        segment=ONLY_SEGMENT,
        version=0,
        cycle=cycle,
        trained_at_utc=now,
        trained_until_utc=split.cut_utc,
        holdout_until_utc=training_set.as_known_at_utc,
        training_set_version=training_set.table.version,
        feature_set_version=training_set.feature_set.version,
        label_version=training_set.labels.version,
        evaluation=trained.evaluation,
        numeric=tuple(trained.numeric),
        categorical=tuple(trained.categorical),
        artefact_path=artefact_path,
        artefact_sha256=digest(pickled),
        estimator=spec.estimator,
        sklearn_version=package_version("scikit-learn"),
        git_commit=read_git_commit(),
        mlflow_run_id="",
        dagster_run_id=run_id,
    )
    registered = stores.registry.log_training(_describe(spec, version, training_set, split, trained, pictures, bundle))
    version = replace(version, version=registered.version, mlflow_run_id=registered.run_id)
    stores.references.record(
        spec.name, version.version, {version.segment: trained.references}, {version.segment: trained.profile}
    )
    stores.versions.record(version)
    return version


def _describe(
    spec: ModelLineSpec,
    version: ModelVersion,
    training_set: TrainingSet,
    split: TimeSplit,
    trained: TrainedModel,
    pictures: dict[str, bytes],
    bundle: bytes,
) -> TrainingRecord:
    evaluation = trained.evaluation
    example = split.holdout[[*trained.numeric, *trained.categorical]].head(50)
    return TrainingRecord(
        line=spec.name,
        cycle=version.cycle,
        params={
            "estimator": spec.estimator,
            **{f"estimator.{name}": str(value) for name, value in spec.params.items()},
            "features": str(len(trained.numeric) + len(trained.categorical)),
            "train_rows": str(len(split.train)),
            "holdout_rows": str(len(split.holdout)),
            "trained_until_utc": version.trained_until_utc.isoformat(),
            "seed": str(spec.validation.seed),
        },
        metrics={
            **evaluation.scores,
            **flatten(evaluation.baseline, "baseline"),
            **flatten(evaluation.dummy, "dummy"),
        },
        tags={
            "factory.line": spec.name,
            "factory.artefact_sha256": version.artefact_sha256,
            "factory.git_commit": version.git_commit,
            "factory.dagster_run_id": version.dagster_run_id,
            "factory.training_set_version": str(version.training_set_version),
            "factory.feature_set_version": str(version.feature_set_version),
        },
        pictures=pictures,
        inputs=[
            (training_set.table, "training"),
            (training_set.feature_set, "features"),
            (training_set.labels, "labels"),
        ],
        bundle=bundle,
        model_config={
            "segment": ONLY_SEGMENT,
            "model_sha256": version.artefact_sha256,
            "numeric": list(trained.numeric),
            "categorical": list(trained.categorical),
            "task": spec.task,
        },
        example=example,
        example_scores=trained.holdout_scores[: len(example)],
        description=spec.description or f"Model line {spec.name}.",
    )


def _gate(
    stores: LineStores, training_set: TrainingSet, version: ModelVersion, split: TimeSplit, now: datetime, run_id: str
) -> PromotionDecision:
    """Champion and challenger on the same rows; a decision already taken on this version stands."""
    history = stores.versions.promotions(version.line, version.segment)
    taken = next((row for row in history if row["version"] == version.version), None)
    if taken is not None:
        decision = PromotionDecision(taken["promoted"], taken["reason"], taken["challenger_value"], taken["champion_value"])
    else:
        champion = stores.versions.champion(version.line, version.segment)
        judged = _evaluate_champion(stores, training_set, champion, split) if champion else None
        decision = decide_promotion(stores.spec, version.evaluation, judged)
        stores.versions.decide(version, champion.version if champion else None, decision, now, run_id)
    stores.registry.record_decision(version.line, version.version, decision.promote, decision.reason)
    serving = stores.versions.champion(version.line, version.segment)
    if serving is not None:
        stores.registry.set_champion(version.line, serving.version)
    return decision


def _evaluate_champion(
    stores: LineStores, training_set: TrainingSet, champion: ModelVersion, split: TimeSplit
) -> Evaluation:
    """The champion on the challenger's holdout; without a value when its file or its features are gone.

    A champion of another feature list gets its own columns, from the feature set that the training set was built from.
    """
    columns, holdout = [*champion.numeric, *champion.categorical], split.holdout
    judged = replace(champion.evaluation, metric=stores.spec.metric, rows=len(holdout), scores={})
    if not set(columns) <= set(training_set.feature_set.columns):
        return judged
    if not set(columns) <= set(holdout.columns):
        key = list(stores.spec.row_key)
        rows = stores.training_sets.read_features(training_set.feature_set, columns).to_pandas()
        holdout = holdout[[*key, LABEL_COLUMN]].merge(rows, on=key, how="left", validate="one_to_one")
    try:
        scores = load_model(stores, champion).predict(holdout)
    except (ArtefactMissingError, UntrustedArtefactError):
        return judged  # a champion that cannot be loaded protects nothing
    metrics = evaluate_metrics(stores.spec.task, holdout[LABEL_COLUMN].to_numpy(), scores)
    return replace(judged, scores=metrics)
