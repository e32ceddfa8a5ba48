"""The verdicts on a line: each kind of check has a room of its own, and each verdict is recorded in the lake."""

from collections.abc import Callable
from datetime import datetime

from factory_assets.contracts.model_line import CheckKind
from factory_assets.lines.judging.drift import judge_feature_drift, judge_prediction_drift
from factory_assets.lines.judging.freshness import judge_delivery, judge_feature_freshness, judge_model_age
from factory_assets.lines.judging.joint import judge_joint_drift
from factory_assets.lines.judging.judgement import Judgement
from factory_assets.lines.judging.quality import judge_estimated_quality, judge_label_drift, judge_quality
from factory_assets.lines.judging.skew import judge_skew
from factory_assets.lines.stores import LineStores

__all__ = ["Judgement", "judge"]

_JUDGES: dict[CheckKind, Callable[[LineStores, datetime, str], Judgement]] = {
    "feature_freshness": judge_feature_freshness,
    "model_age": judge_model_age,
    "predictions_delivered": judge_delivery,
    "feature_drift": judge_feature_drift,
    "joint_drift": judge_joint_drift,
    "prediction_drift": judge_prediction_drift,
    "label_drift": judge_label_drift,
    "quality": judge_quality,
    "estimated_quality": judge_estimated_quality,
    "skew": judge_skew,
}


def judge(stores: LineStores, check: CheckKind, now: datetime, run_id: str) -> Judgement:
    """Evaluates one check as of `now` and records the verdict in the lake."""
    judgement = _JUDGES[check](stores, now, run_id)
    stores.checks.record(
        stores.spec.name,
        check,
        champion_version=judgement.champion_version,
        data_as_of_utc=judgement.data_as_of_utc,
        evaluated_at_utc=now,
        passed=judgement.passed,
        summary=judgement.summary,
        numbers=judgement.numbers,
        run_id=run_id,
    )
    return judgement
