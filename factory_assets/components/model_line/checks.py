"""The asset checks of a line: one key a kind, with numbers, a picture, and the evidence that the sensor acts on."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import dagster as dg

from factory_assets.components.metering import metered
from factory_assets.components.model_line.opening import open_stores
from factory_assets.components.model_line.own_checks import OwnChecks, read_blocking
from factory_assets.components.naming import FAILING_SEGMENTS_METADATA, models_key, predictions_key
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.contracts.model_line import CheckKind, ModelLineSpec
from factory_assets.contracts.names import format_duration
from factory_assets.core.pictures.plots import image_markdown
from factory_assets.lines.judging import Judgement, judge
from factory_assets.lines.stores import LineStores
from factory_assets.resources import ClockResource, LakeResource, MlflowResource

CHAMPION_METADATA = "champion_version"
DATA_AS_OF_METADATA = "data_as_of"


def check_keys(spec: ModelLineSpec) -> dict[CheckKind, dg.AssetCheckKey]:
    """The key of each check of the line: the model's age belongs to the models, the rest to the predictions."""
    predictions, models = predictions_key(spec.name), models_key(spec.name)
    kinds: list[CheckKind] = list(get_args(CheckKind))
    if spec.freshness.predictions_by is None:
        kinds.remove("predictions_delivered")
    if spec.drift.joint is None:
        kinds.remove("joint_drift")
    return {kind: dg.AssetCheckKey(models if kind == "model_age" else predictions, kind) for kind in kinds}


def build_checks(
    spec: ModelLineSpec,
    calendar: CalendarSpec | None = None,
    sources: tuple[str, ...] = (),
    blocking: OwnChecks | None = None,
) -> list[dg.AssetChecksDefinition]:
    """The checks of a line, one of each kind; the calendar is needed with `freshness.predictions_by` alone."""

    def open_line(instance: dg.DagsterInstance, lake: LakeResource, mlflow: MlflowResource) -> LineStores:
        hindrance = read_blocking(instance, blocking or {})
        return replace(open_stores(spec, lake, mlflow), calendar=calendar, sources=sources, hindrance=hindrance)

    return [_build_check(spec, kind, key, open_line) for kind, key in check_keys(spec).items()]


def _build_check(
    spec: ModelLineSpec,
    kind: CheckKind,
    key: dg.AssetCheckKey,
    open_line: Callable[[dg.DagsterInstance, LakeResource, MlflowResource], LineStores],
) -> dg.AssetChecksDefinition:
    # In a retrain the new champion is judged, so a check of the predictions waits for the models as well.
    also = [models_key(spec.name)] if key.asset_key != models_key(spec.name) else None

    @dg.asset_check(asset=key.asset_key, name=key.name, description=_describe_check(spec, kind), additional_deps=also)
    @metered("check", f"{key.asset_key.to_user_string()}:{key.name}", spec.name)
    def check(
        context: dg.AssetCheckExecutionContext, lake: LakeResource, mlflow: MlflowResource, clock: ClockResource
    ) -> dg.AssetCheckResult:
        stores = open_line(context.instance, lake, mlflow)
        judgement = judge(stores, kind, clock.open().now(), context.run.run_id)
        return dg.AssetCheckResult(
            passed=judgement.passed,
            severity=dg.AssetCheckSeverity.WARN,
            description=judgement.summary,
            metadata=_metadata(judgement),
        )

    return check


def _metadata(judgement: Judgement) -> dict[str, Any]:
    pictures = {"picture": judgement.picture, "segments_over_days": judgement.over_days}
    return {
        **{name: dg.MetadataValue.md(image_markdown(png, judgement.summary)) for name, png in pictures.items() if png},
        **judgement.numbers,
        FAILING_SEGMENTS_METADATA: list(judgement.failing_segments),
        CHAMPION_METADATA: judgement.champion_version,
        DATA_AS_OF_METADATA: dg.MetadataValue.timestamp(judgement.data_as_of_utc),
    }


def _describe_check(spec: ModelLineSpec, kind: CheckKind) -> str:
    freshness, drift, quality = spec.freshness, spec.drift, spec.quality
    days = format_duration(quality.window)
    window = format_duration(drift.window)
    unseen = freshness.model_max_unseen_rows
    also = f" It has not seen at most {unseen:,} labelled rows." if unseen else ""
    return {
        "feature_freshness": f"The newest feature row is at most {format_duration(freshness.features_max_lag)} old.",
        "model_age": f"The champion has seen data of the last {format_duration(freshness.model_max_age)}.{also}",
        "predictions_delivered": f"Each row of a day is scored by {freshness.predictions_by} of the next.",
        "feature_drift": f"Features of the last {window} are as at training, or noise explains how they differ.",
        "joint_drift": f"No classifier tells rows of the last {window} from those of training, beyond what days explain.",
        "prediction_drift": f"Scores of the last {window} are as on the holdout, or noise explains how they differ.",
        "label_drift": f"Labels known of the last {window} are as at training, or the features explain how they differ.",
        "quality": f"The model has lost at most {quality.max_loss:.0%} of its skill, by the labels known of {days}.",
        "estimated_quality": f"By scores of {days} the model loses at most {quality.max_expected_loss:.0%} of its skill.",
        "skew": f"Training sees the features that scoring saw, in sampled rows of {format_duration(spec.skew.window)}.",
    }[kind]
