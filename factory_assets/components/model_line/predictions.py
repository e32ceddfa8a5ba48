"""The asset `<line>/predictions`: days scored by the champion."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import dagster as dg

from factory_assets.components.calendar import build_partitions
from factory_assets.components.column_lineage import prediction_lineage
from factory_assets.components.freshness_policies import predictions_policy
from factory_assets.components.metering import metered
from factory_assets.components.model_line.opening import open_stores
from factory_assets.components.model_line.own_checks import OwnChecks, read_blocking
from factory_assets.components.naming import (
    CATCH_UP_TAG,
    DAILY,
    PRIORITY_TAG,
    line_tags,
    models_key,
    predictions_key,
    table_key,
)
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.lines.blocking import consecutive_days, find_blocked_days
from factory_assets.lines.scoring import ScoringOutcome, score_changed_days, score_days
from factory_assets.resources import ClockResource, LakeResource, MlflowResource


def build_predictions_asset(
    spec: ModelLineSpec, calendar: CalendarSpec, sources: tuple[str, ...] = (), blocking: OwnChecks | None = None
) -> dg.AssetsDefinition:
    """One asset, a partition a day, any range of days in one run; days of a broken feed wait if the line says so.

    A run that takes mended days in also scores those again whose features changed with them.

    Args:
        spec: the line.
        calendar: cuts the days.
        sources: what its tables are built from.
        blocking: own checks that keep it from scoring while they fail.
    """
    partitions = build_partitions(calendar)

    @dg.asset(
        key=predictions_key(spec.name),
        deps=[table_key("features", spec.feature_set), models_key(spec.name)],
        description=f"Scores of {spec.name}, one row per {', '.join(spec.entity)}, replaced day by day.",
        group_name=spec.name,
        kinds={"delta"},
        owners=list(spec.owners) or None,
        tags=line_tags(spec.name, DAILY),
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        freshness_policy=predictions_policy(spec, calendar),
        output_required=False,
        # Of the steps that are ready at the same time the checks go first: they may be what scoring waits for.
        op_tags={PRIORITY_TAG: "-1"} if blocking else None,
    )
    @metered("predictions", f"{spec.name}/predictions", spec.name)
    def predictions(
        context: dg.AssetExecutionContext, lake: LakeResource, mlflow: MlflowResource, clock: ClockResource
    ) -> Iterator[dg.MaterializeResult[Any]]:
        hindrance = read_blocking(context.instance, blocking or {}, context.run_id)
        stores = replace(open_stores(spec, lake, mlflow), sources=sources, hindrance=hindrance)
        days = [date.fromisoformat(key) for key in context.partition_keys]
        waiting = find_blocked_days(stores, days)
        for day, reason in waiting.items():
            context.log.error(f"{spec.name} does not score {day}: {reason} It is scored when that is mended.")
        now = clock.open().now()
        if CATCH_UP_TAG in context.run.tags:
            note_scored_days(context, spec, score_changed_days(stores, days, partitions.timezone, now, context.run_id))
        for span in consecutive_days(set(days) - set(waiting)):
            outcome = score_days(stores, span, partitions.timezone, now, context.run_id)
            if outcome is None:
                context.log.warning(f"{spec.name} has no champion yet: nothing was scored. Run {spec.name}__retrain first.")
                return
            if not waiting:
                lineage = prediction_lineage(spec, stores.training_sets.feature_columns(stores.training_sets.pin_features()))
                yield dg.MaterializeResult(metadata=_describe(outcome) | lineage, data_version=_version(outcome))
                return
            # A result of the asset would count for all days of the run, those that wait among them.
            note_scored_days(context, spec, span)

    return predictions


def note_scored_days(context: dg.AssetExecutionContext, spec: ModelLineSpec, days: Iterable[date]) -> None:
    """Tells Dagster of days that were scored, each as a partition of `<line>/predictions`, whichever asset's run did it."""
    for day in days:
        context.log_event(dg.AssetMaterialization(predictions_key(spec.name), partition=day.isoformat()))


def _describe(outcome: ScoringOutcome) -> dict[str, Any]:
    return {
        "rows_scored": outcome.rows,
        "mean_score": outcome.mean_score,
        "model_version": outcome.model_version,
        "feature_set_version": str(outcome.feature_set_version),
        "delta_version": str(outcome.table_version),
    }


def _version(outcome: ScoringOutcome) -> dg.DataVersion:
    return dg.DataVersion(f"delta-{outcome.table_version}")
