"""The verdicts on a line: is its data fresh, its model young, and do features and predictions look as at training?"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from factory_assets.contracts.model_line import CheckKind
from factory_assets.contracts.reports import DriftReport, FeatureReference, FreshnessReport
from factory_assets.core.drift import evaluate_drift
from factory_assets.core.freshness import evaluate_freshness
from factory_assets.core.plots import plot_drift, plot_freshness
from factory_assets.lines.stores import LineStores
from factory_assets.storage.model_versions import ModelVersion

PREDICTION = "prediction"
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Judgement:
    """One verdict with its evidence; `champion_version` 0 means that no model serves yet."""

    check: CheckKind
    passed: bool
    summary: str
    champion_version: int
    data_as_of_utc: datetime
    picture: bytes
    numbers: dict[str, Any] = field(default_factory=dict)


def judge(stores: LineStores, check: CheckKind, now: datetime, run_id: str) -> Judgement:
    """Evaluates one check as of `now` and records the verdict in the lake."""
    judgement = _JUDGES[check](stores, now)
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


def _judge_data_freshness(stores: LineStores, now: datetime) -> Judgement:
    champion = stores.versions.champion(stores.spec.name)
    newest = _newest_feature_row(stores)
    report = evaluate_freshness("data", newest, now, stores.spec.freshness.data_max_lag)
    return _from_freshness("data_freshness", report, champion, newest)


def _judge_model_age(stores: LineStores, now: datetime) -> Judgement:
    champion = stores.versions.champion(stores.spec.name)
    trained_until = champion.holdout_until_utc if champion else None
    report = evaluate_freshness("model", trained_until, now, stores.spec.freshness.model_max_age)
    return _from_freshness("model_age", report, champion, _newest_feature_row(stores))


def _judge_feature_drift(stores: LineStores, now: datetime) -> Judgement:
    def current(features: list[str]) -> pd.DataFrame:
        start = now - stores.spec.drift.window
        table = stores.training_sets.pin_features()
        frame: pd.DataFrame = stores.predictions.read_features(table, features, start, now).to_pandas()
        return frame

    ignored = {PREDICTION, *stores.spec.drift.ignore}
    return _judge_drift(stores, now, "feature_drift", lambda reference: reference.feature not in ignored, current)


def _judge_prediction_drift(stores: LineStores, now: datetime) -> Judgement:
    def current(features: list[str]) -> pd.DataFrame:
        scores = stores.predictions.read_scores(now - stores.spec.drift.window, now)
        return pd.DataFrame({PREDICTION: scores.column("score").to_numpy()})

    return _judge_drift(stores, now, "prediction_drift", lambda reference: reference.feature == PREDICTION, current)


def _judge_drift(
    stores: LineStores,
    now: datetime,
    check: CheckKind,
    wanted: Callable[[FeatureReference], bool],
    current: Callable[[list[str]], pd.DataFrame],
) -> Judgement:
    champion = stores.versions.champion(stores.spec.name)
    references = [reference for reference in champion.references if wanted(reference)] if champion else []
    frame = current([reference.feature for reference in references]) if references else pd.DataFrame()
    policy = stores.spec.drift
    report = evaluate_drift(references, frame, policy.threshold, policy.min_rows, policy.false_discovery_rate)
    return Judgement(
        check=check,
        passed=not report.drifted,
        summary=report.reason,
        champion_version=champion.version if champion else 0,
        data_as_of_utc=_newest_feature_row(stores) or _NEVER,
        picture=plot_drift(report),
        numbers=_drift_numbers(report),
    )


def _drift_numbers(report: DriftReport) -> dict[str, Any]:
    worst = max(report.features, key=lambda f: f.psi, default=None)
    return {
        "max_psi": worst.psi if worst else None,
        "worst_feature": worst.feature if worst else None,
        "drifted_features": list(report.drifted_features),
        "threshold": report.threshold,
        "reference_rows": report.reference_rows,
        "current_rows": report.current_rows,
        "judged": report.judged,
    }


def _from_freshness(
    check: CheckKind, report: FreshnessReport, champion: ModelVersion | None, as_of: datetime | None
) -> Judgement:
    return Judgement(
        check=check,
        passed=report.fresh,
        summary=report.reason,
        champion_version=champion.version if champion else 0,
        data_as_of_utc=as_of or _NEVER,
        picture=plot_freshness(report),
        numbers={
            "lag_hours": None if report.lag_seconds is None else report.lag_seconds / 3600,
            "limit_hours": report.limit_seconds / 3600,
            "newest_utc": report.newest_utc.isoformat() if report.newest_utc else None,
        },
    )


def _newest_feature_row(stores: LineStores) -> datetime | None:
    feature_set = stores.lake.find(f"features/{stores.spec.feature_set}")
    if feature_set is None:
        return None
    newest = stores.lake.query(f'select max("{stores.spec.as_of}") as newest from t', t=feature_set)
    value: datetime | None = newest.column("newest")[0].as_py()
    return value


_JUDGES: dict[CheckKind, Callable[[LineStores, datetime], Judgement]] = {
    "data_freshness": _judge_data_freshness,
    "model_age": _judge_model_age,
    "feature_drift": _judge_feature_drift,
    "prediction_drift": _judge_prediction_drift,
}
