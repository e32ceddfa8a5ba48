"""Is the line's data fresh, and is its model young?"""

from datetime import datetime

from factory_assets.contracts.model_line import CheckKind
from factory_assets.contracts.reports import FreshnessReport
from factory_assets.core.freshness import evaluate_freshness
from factory_assets.core.plots import plot_freshness
from factory_assets.lines.judging.judgement import NEVER, Judgement, newest_feature_row
from factory_assets.lines.stores import LineStores
from factory_assets.storage.model_versions import ModelVersion


def judge_data_freshness(stores: LineStores, now: datetime, run_id: str) -> Judgement:
    """The newest feature row against `freshness.data_max_lag`."""
    champion = stores.versions.champion(stores.spec.name)
    newest = newest_feature_row(stores)
    report = evaluate_freshness("data", newest, now, stores.spec.freshness.data_max_lag)
    return _judgement("data_freshness", report, champion, newest)


def judge_model_age(stores: LineStores, now: datetime, run_id: str) -> Judgement:
    """The end of the champion's holdout against `freshness.model_max_age`."""
    champion = stores.versions.champion(stores.spec.name)
    trained_until = champion.holdout_until_utc if champion else None
    report = evaluate_freshness("model", trained_until, now, stores.spec.freshness.model_max_age)
    return _judgement("model_age", report, champion, newest_feature_row(stores))


def _judgement(
    check: CheckKind, report: FreshnessReport, champion: ModelVersion | None, as_of: datetime | None
) -> Judgement:
    return Judgement(
        check=check,
        passed=report.fresh,
        summary=report.reason,
        champion_version=champion.version if champion else 0,
        data_as_of_utc=as_of or NEVER,
        picture=plot_freshness(report),
        numbers={
            "lag_hours": None if report.lag_seconds is None else report.lag_seconds / 3600,
            "limit_hours": report.limit_seconds / 3600,
            "newest_utc": report.newest_utc.isoformat() if report.newest_utc else None,
        },
    )
