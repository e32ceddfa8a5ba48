"""The assets `<line>/training_set` and `<line>/models`."""

from datetime import date, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

import dagster as dg

from factory_assets.components.calendar import closed_days
from factory_assets.components.column_lineage import training_set_lineage
from factory_assets.components.metering import metered
from factory_assets.components.model_line.opening import open_stores
from factory_assets.components.model_line.retrain_runs import answer_request, claim_request, claimant_of
from factory_assets.components.naming import (
    CAUSE_TAG,
    ON_RETRAIN,
    STRATEGY_TAG,
    line_tags,
    models_key,
    predictions_key,
    table_key,
    training_set_key,
)
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.retraining import ONLY_SEGMENT, Outcome
from factory_assets.core.plots import image_markdown
from factory_assets.lines.retrain_situation import apply_strategy
from factory_assets.lines.scoring import score_days
from factory_assets.lines.stores import LineStores
from factory_assets.lines.training import TrainingOutcome, train_line
from factory_assets.resources import ClockResource, LakeResource, MlflowResource


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
            metadata={
                "dagster/row_count": built.table.row_count,
                "delta_version": str(built.table.version),
                "feature_set_version": str(built.feature_set.version),
                "label_version": str(built.labels.version),
                "as_known_at": dg.MetadataValue.timestamp(built.as_known_at_utc),
                **training_set_lineage(spec, built.table.columns),
            },
            data_version=dg.DataVersion(f"delta-{built.table.version}"),
        )

    return training_set


def build_models_asset(spec: ModelLineSpec, calendar: CalendarSpec) -> dg.AssetsDefinition:
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
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=max(spec.freshness.model_max_age, timedelta(hours=1))),
    )
    @metered("models", f"{spec.name}/models", spec.name)
    def models(
        context: dg.AssetExecutionContext, lake: LakeResource, mlflow: MlflowResource, clock: ClockResource
    ) -> dg.MaterializeResult[Any]:
        stores = open_stores(apply_strategy(spec, context.run.tags.get(STRATEGY_TAG)), lake, mlflow)
        now = clock.open().now()
        claimant = claimant_of(spec.name, context.run, ())
        claim_request(stores, claimant, now)
        outcome = train_line(stores, now, context.run_id)
        if outcome.decision.promote:
            for day in _score_again(stores, calendar, now, context.run_id):
                context.log_event(dg.AssetMaterialization(predictions_key(spec.name), partition=day.isoformat()))
        # Last, so that a run which is cut off before is not taken for an answer.
        answer_request(stores, claimant, _outcomes(outcome), now)
        return dg.MaterializeResult(
            metadata=_describe(outcome, context.run.tags.get(CAUSE_TAG, "started by hand")),
            data_version=dg.DataVersion(f"v{outcome.version.version}"),
        )

    return models


def _score_again(stores: LineStores, calendar: CalendarSpec, now: datetime, run_id: str) -> list[date]:
    """Scores the days of the drift window, which the checks at the end of the retrain look at; returns them."""
    closed = closed_days(calendar, now)
    if closed is None:
        return []
    window_start = (now - stores.spec.drift.window).astimezone(ZoneInfo(calendar.timezone)).date()
    first = max(calendar.start, min(closed[1], window_start))
    days = [first + timedelta(days=position) for position in range((closed[1] - first).days + 1)]
    score_days(stores, days, calendar.timezone, now, run_id)
    return days


def _outcomes(outcome: TrainingOutcome) -> dict[str, Outcome]:
    """How the run answers for each segment."""
    state: Literal["promoted", "kept_champion"] = "promoted" if outcome.decision.promote else "kept_champion"
    return {ONLY_SEGMENT: Outcome(state, outcome.decision.reason, outcome.version.version)}


def _describe(outcome: TrainingOutcome, cause: str) -> dict[str, Any]:
    version = outcome.version
    evaluation = version.evaluation
    return {
        "version": version.version,
        "promoted": outcome.decision.promote,
        "gate": outcome.decision.reason,
        "cause": cause,
        "fitted": outcome.fitted,
        **evaluation.scores,
        f"baseline_{evaluation.metric}": evaluation.baseline[evaluation.metric],
        f"dummy_{evaluation.metric}": evaluation.dummy[evaluation.metric],
        "mlflow_run_id": version.mlflow_run_id,
        "artefact_sha256": version.artefact_sha256,
        **{
            name.removesuffix(".png"): dg.MetadataValue.md(image_markdown(png, name))
            for name, png in outcome.pictures.items()
        },
    }
