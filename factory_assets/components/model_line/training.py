"""The assets `<line>/training_set` and `<line>/models`."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import dagster as dg
from pydantic import Field

from factory_assets.components.column_lineage import training_set_lineage
from factory_assets.components.freshness_policies import lag_policy
from factory_assets.components.metering import metered
from factory_assets.components.model_line.cells import cause_of, fail_for
from factory_assets.components.model_line.fleet import describe_fleet
from factory_assets.components.model_line.opening import open_stores
from factory_assets.components.model_line.own_checks import OwnChecks, read_blocking
from factory_assets.components.model_line.retrain_runs import claim_request, claimant_of
from factory_assets.components.model_line.retrain_step import run_retrain
from factory_assets.components.naming import (
    DATA_VERSION_TAG,
    ON_RETRAIN,
    STRATEGY_TAG,
    line_tags,
    models_key,
    segment_partitions,
    segments_key,
    table_key,
    training_set_key,
)
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.core.pictures.plots import image_markdown
from factory_assets.lines.retrain_situation import apply_strategy
from factory_assets.lines.stores import LineStores
from factory_assets.lines.training import TrainingOutcome
from factory_assets.resources import ClockResource, LakeResource, MlflowResource
from factory_assets.storage.tables.training_sets import TrainingSet


class SegmentsConfig(dg.Config):
    """What a person, or the sensor, may choose of a retrain."""

    segments: list[str] = Field(
        default=[], description="Keys of the segments to train, as in `<line>/segments`; none: all that changed."
    )


def build_training_set_asset(spec: ModelLineSpec) -> dg.AssetsDefinition:
    """Features as they were at the moment of prediction, joined to labels known by now."""

    @dg.asset(
        key=training_set_key(spec.name),
        deps=[table_key("features", spec.feature_set), table_key("marts", spec.label.model)],
        description=f"Rows that {spec.name} may learn from: features as of {spec.as_of}, labels only once known.",
        group_name=spec.name,
        kinds={"delta"},
        owners=list(spec.owners) or None,
        tags=line_tags(spec.name, ON_RETRAIN),
    )
    @metered("training_set", f"{spec.name}/training_set", spec.name)
    def training_set(
        context: dg.AssetExecutionContext, lake: LakeResource, mlflow: MlflowResource, clock: ClockResource
    ) -> dg.MaterializeResult[Any]:
        stores, now = open_stores(spec, lake, mlflow), clock.open().now()
        claimant = claimant_of(spec.name, context.run, ())
        if claimant.run_key:  # before any work, so that of two runs of one request the second does none
            claim_request(stores, claimant, now)
        built = stores.training_sets.build(now)
        return dg.MaterializeResult(
            metadata=_describe_training_set(spec, built),
            data_version=dg.DataVersion(f"delta-{built.table.version}"),
        )

    return training_set


def build_models_asset(
    spec: ModelLineSpec, calendar: CalendarSpec, sources: tuple[str, ...] = (), blocking: OwnChecks | None = None
) -> dg.AssetsDefinition:
    """Fits, evaluates, records and gates; a new champion scores the newest days again, and the ledger is told.

    The days are scored here and not by the predictions asset, so that the retrain job has no partitions: a run over a
    range of days plans every check once a day, and all but one of them would be shown as skipped.
    """

    @dg.asset(
        key=models_key(spec.name),
        deps=[training_set_key(spec.name)],
        description=spec.description or f"Trained models of {spec.name}; the gate decides which one serves.",
        group_name=spec.name,
        kinds={"sklearn", "mlflow"},
        owners=list(spec.owners) or None,
        tags=line_tags(spec.name, ON_RETRAIN),
        freshness_policy=lag_policy(spec.freshness.model_max_age),
    )
    @metered("models", f"{spec.name}/models", spec.name)
    def models(
        context: dg.AssetExecutionContext,
        config: SegmentsConfig,
        lake: LakeResource,
        mlflow: MlflowResource,
        clock: ClockResource,
    ) -> dg.MaterializeResult[Any]:
        trained_by = apply_strategy(spec, context.run.tags.get(STRATEGY_TAG))
        hindrance = read_blocking(context.instance, blocking or {}, context.run_id)
        stores = replace(open_stores(trained_by, lake, mlflow), sources=sources, hindrance=hindrance)
        now = clock.open().now()
        outcome = run_retrain(context, stores, calendar, now, config.segments)
        return dg.MaterializeResult(
            metadata=_describe(spec, outcome, cause_of(context)),
            data_version=dg.DataVersion(f"v{outcome.cycle.version}"),
        )

    return models


def build_segments_asset(
    spec: ModelLineSpec, calendar: CalendarSpec, sources: tuple[str, ...] = (), blocking: OwnChecks | None = None
) -> dg.AssetsDefinition:
    """Every segment of a fleet that a cycle knew as a partition; any choice of them is trained in one run.

    Who chooses segments wants them looked at as they are now, so the run builds the training set first.
    Its materializations are logged by whoever trains, mostly by `<line>/models`. A chosen segment that fails fails the run,
    after all others are done: its cell turns red, and theirs are green.
    """

    @dg.asset(
        key=segments_key(spec.name),
        deps=[training_set_key(spec.name)],
        description=(
            f"The segments of {spec.name}, a partition each: state, metric, champion, reason. "
            "Materialize partitions to train exactly these segments."
        ),
        group_name=spec.name,
        kinds={"sklearn", "mlflow"},
        owners=list(spec.owners) or None,
        tags=line_tags(spec.name, ON_RETRAIN),
        partitions_def=dg.DynamicPartitionsDefinition(name=segment_partitions(spec.name)),
        backfill_policy=dg.BackfillPolicy.single_run(),
        freshness_policy=lag_policy(spec.freshness.model_max_age),
        output_required=False,
    )
    @metered("models", f"{spec.name}/segments", spec.name)
    def segments(
        context: dg.AssetExecutionContext, lake: LakeResource, mlflow: MlflowResource, clock: ClockResource
    ) -> Iterator[dg.MaterializeResult[Any]]:
        hindrance = read_blocking(context.instance, blocking or {}, context.run_id)
        stores = replace(open_stores(spec, lake, mlflow), sources=sources, hindrance=hindrance)
        now = clock.open().now()
        _renew_training_set(context, stores, now)
        outcome = run_retrain(context, stores, calendar, now, context.partition_keys, cells=context.partition_keys)
        failed = {row["segment"]: row["reason"] for row in outcome.decisions if row["outcome"] == "failed"}
        if failed:
            raise fail_for(failed)
        # The materializations are logged already, with what is to be shown of each.
        yield from ()

    return segments


def _renew_training_set(context: dg.AssetExecutionContext, stores: LineStores, now: datetime) -> None:
    """The training set as it can be known at `now`, told as a run of its own asset tells it, if it is another one."""
    known = stores.lake.find(stores.training_sets.name)
    built = stores.training_sets.build(now)
    if known is None or built.table.version != known.version:
        key, metadata = training_set_key(stores.spec.name), _describe_training_set(stores.spec, built)
        tags = {DATA_VERSION_TAG: f"delta-{built.table.version}"}
        context.log_event(dg.AssetMaterialization(key, metadata=metadata, tags=tags))


def _describe_training_set(spec: ModelLineSpec, built: TrainingSet) -> dict[str, Any]:
    return {
        "dagster/row_count": built.table.row_count,
        "delta_version": str(built.table.version),
        "feature_set_version": str(built.feature_set.version),
        "label_version": str(built.labels.version),
        "as_known_at": dg.MetadataValue.timestamp(built.as_known_at_utc),
        **training_set_lineage(spec, built.table.columns),
    }


def _describe(spec: ModelLineSpec, outcome: TrainingOutcome, cause: str) -> dict[str, Any]:
    version = outcome.version
    evaluation = version.evaluation
    return {
        "version": version.version,
        "promoted": outcome.decision.promote,
        "gate": outcome.decision.reason,
        "cause": cause,
        "fitted": outcome.fitted,
        **evaluation.scores,
        f"baseline_{evaluation.metric}": evaluation.baseline.get(evaluation.metric),
        f"dummy_{evaluation.metric}": evaluation.dummy[evaluation.metric],
        "mlflow_run_id": version.mlflow_run_id,
        "artefact_sha256": version.artefact_sha256,
        **(describe_fleet(outcome) if spec.segment_by else {}),
        **{
            name.removesuffix(".png"): dg.MetadataValue.md(image_markdown(png, name))
            for name, png in outcome.pictures.items()
        },
    }
