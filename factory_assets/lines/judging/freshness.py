"""Are the line's features fresh, is its model young, and are its predictions there in time?"""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.contracts.model_line import CheckKind
from factory_assets.contracts.model_versions import ModelVersion
from factory_assets.contracts.reports import DeliveryReport, FreshnessReport
from factory_assets.contracts.segments import ALL
from factory_assets.core.monitoring.freshness import (
    evaluate_delivery,
    evaluate_freshness,
    evaluate_segment_ages,
    evaluate_unseen_rows,
    find_due_day,
)
from factory_assets.core.pictures.plots import plot_delivery, plot_freshness
from factory_assets.lines.blocking import find_blocked_days
from factory_assets.lines.judging.drift import MOST_NAMED_SEGMENTS
from factory_assets.lines.judging.judgement import NEVER, Judgement, newest_feature_row
from factory_assets.lines.retrain_situation import count_labels, read_rows_a_day
from factory_assets.lines.stores import LineStores
from factory_assets.storage.sql import quote_identifier

_USUAL_WEEKS = 4


def judge_feature_freshness(stores: LineStores, now: datetime, run_id: str) -> Judgement:
    """The newest feature row against `freshness.features_max_lag`."""
    champion = stores.versions.champion(stores.spec.name)
    newest = newest_feature_row(stores)
    report = evaluate_freshness("features", newest, now, stores.spec.freshness.features_max_lag)
    return _judgement("feature_freshness", report, champion, newest)


def judge_model_age(stores: LineStores, now: datetime, run_id: str) -> Judgement:
    """The end of each champion's holdout against `freshness.model_max_age`, and what that of all rows has not seen since."""
    freshness = stores.spec.freshness
    champion = stores.versions.champion(stores.spec.name)
    trained_until = champion.holdout_until_utc if champion else None
    report = evaluate_freshness("model", trained_until, now, freshness.model_max_age)
    unseen = count_labels(stores, trained_until, now) if trained_until else None
    if unseen is not None:
        report = evaluate_unseen_rows(report, unseen, freshness.model_max_unseen_rows)
    failing: tuple[str, ...] = () if report.fresh else (ALL,)
    if stores.spec.segment_by:
        report, stale = evaluate_segment_ages(report, _read_ends(stores, now), now, freshness.model_max_age)
        failing = (*failing, *stale)[:MOST_NAMED_SEGMENTS]
    more = {"unseen_labelled_rows": unseen}
    return replace(_judgement("model_age", report, champion, newest_feature_row(stores), more), failing_segments=failing)


def _read_ends(stores: LineStores, now: datetime) -> dict[str, datetime]:
    """The end of the holdout of each segment's serving model that scored a row of late: what nobody uses ages in peace."""
    standing, traffic = stores.versions.standing(stores.spec.name), read_rows_a_day(stores, now)
    serving = {s: champion.version for s, champion in standing.serving.items() if s != ALL and s in traffic}
    recorded = stores.versions.of_segments(stores.spec.name, serving)
    return {segment: version.holdout_until_utc for segment, version in recorded.items()}


def judge_delivery(stores: LineStores, now: datetime, run_id: str) -> Judgement:
    """The newest day that is due by `freshness.predictions_by`: is each of its rows scored?"""
    spec, calendar = stores.spec, stores.calendar
    if calendar is None or spec.freshness.predictions_by is None:
        raise LookupError(f"{spec.name}: delivery is judged with a calendar and freshness.predictions_by")
    due = find_due_day(spec.freshness.predictions_by, calendar, now)
    report = None if due is None else _read_delivery(stores, calendar, *due)
    champion = stores.versions.champion(spec.name)
    return Judgement(
        check="predictions_delivered",
        passed=report is None or report.delivered,
        summary=report.reason if report else f"No day is due yet: the calendar starts on {calendar.start}.",
        champion_version=champion.version if champion else 0,
        data_as_of_utc=newest_feature_row(stores) or NEVER,
        picture=plot_delivery(report),
        numbers={
            "day": report.day.isoformat() if report else None,
            "due_utc": report.due_utc.isoformat() if report else None,
            "feature_rows": report.feature_rows if report else 0,
            "scored_rows": report.scored_rows if report else 0,
        },
    )


def _read_delivery(stores: LineStores, calendar: CalendarSpec, day: date, due_utc: datetime) -> DeliveryReport:
    zone = ZoneInfo(calendar.timezone)
    start, end = (datetime.combine(day + timedelta(days=n), time(), zone).astimezone(UTC) for n in (0, 1))
    before = [
        tuple(datetime.combine(day + timedelta(days=n - 7 * week), time(), zone).astimezone(UTC) for n in (0, 1))
        for week in range(1, _USUAL_WEEKS + 1)
    ]
    newest = newest_feature_row(stores)
    return evaluate_delivery(
        day,
        due_utc,
        _count(stores, f"features/{stores.spec.feature_set}", "true", (start, end)),
        _count(stores, stores.predictions.name, "score is not null", (start, end)),
        is_over=newest is not None and newest >= end,
        is_usual=any(_count(stores, f"features/{stores.spec.feature_set}", "true", span) for span in before),
        waits_for=find_blocked_days(stores, [day]).get(day, ""),
    )


def _count(stores: LineStores, table: str, condition: str, span: tuple[datetime, ...]) -> int:
    pinned = stores.lake.find(table)
    if pinned is None:
        return 0
    as_of = quote_identifier(stores.spec.as_of)
    sql = f"select count(*) as rows from t where {condition} and {as_of} >= ? and {as_of} < ?"
    return int(stores.lake.query(sql, list(span), t=pinned).column("rows")[0].as_py())


def _judgement(
    check: CheckKind,
    report: FreshnessReport,
    champion: ModelVersion | None,
    as_of: datetime | None,
    more: dict[str, Any] | None = None,
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
            **(more or {}),
        },
    )
