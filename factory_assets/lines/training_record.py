"""A cycle as MLflow gets it: the run of the line with its parameters, metrics, tags and inputs, and the version to load."""

from pathlib import Path

import numpy as np

from factory_assets.contracts.segments import ALL
from factory_assets.core.serving.fleet_scoring import ServingModel
from factory_assets.core.training.fit import TrainedModel
from factory_assets.core.training.time_split import HOLDOUT, TRAIN
from factory_assets.lines.cycle import Cycle
from factory_assets.lines.packages import estimator_packages
from factory_assets.lines.segment_entries import describe_line, finite, search_params
from factory_assets.lines.segment_files import write_outcomes, write_searches
from factory_assets.lines.serving import flatten
from factory_assets.lines.stores import LineStores
from factory_assets.storage.git import read_git_commit
from factory_assets.storage.mlflow.registry import TrainingRecord, serving_list

_EXAMPLE_ROWS = 50


def describe_training(stores: LineStores, cycle: Cycle, bundle: Path, serving: list[ServingModel]) -> TrainingRecord:
    """The run and version of a cycle whose model file is `bundle`, of which `serving` serve."""
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
