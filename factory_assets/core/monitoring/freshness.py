"""How old something is, by event time, against its limit; and whether what was due is there."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.contracts.reports import DeliveryReport, FreshnessReport


def evaluate_freshness(what: str, newest_utc: datetime | None, now: datetime, limit: timedelta) -> FreshnessReport:
    """Judges the lag from the newest event to now; what was never reported is not fresh, and the lag is never negative.

    >>> from datetime import UTC
    >>> noon = datetime(2013, 1, 2, 12, tzinfo=UTC)
    >>> evaluate_freshness("flights", noon - timedelta(hours=3), noon, timedelta(hours=2)).reason
    'flights: the newest is 3h 0m old (2013-01-02T09:00:00+00:00), past the limit of 2h 0m.'

    Args:
        what: names the thing in the reason.
        newest_utc: event time of its newest row; None when there is none.
        now: factory time.
        limit: the longest allowed lag, itself still fresh.

    Raises:
        ValueError: for a datetime without a time zone.
    """
    if now.tzinfo is None or (newest_utc is not None and newest_utc.tzinfo is None):
        raise ValueError(f"{what}: freshness needs timezone-aware datetimes, got {newest_utc!r} and now {now!r}")
    limit_seconds = limit.total_seconds()
    if newest_utc is None:
        reason = f"{what}: nothing was ever reported, and the limit is {_span(limit_seconds)}."
        return FreshnessReport(False, None, None, limit_seconds, reason)
    lag_seconds = (now - newest_utc).total_seconds()
    if lag_seconds < 0:
        reason = (
            f"{what}: the newest ({newest_utc.isoformat()}) lies {_span(-lag_seconds)} after now ({now.isoformat()}):"
            " the clock was set back, or the data runs ahead; counted as no lag."
        )
        return FreshnessReport(True, newest_utc, 0.0, limit_seconds, reason)
    fresh = lag_seconds <= limit_seconds
    verdict = "within" if fresh else "past"
    reason = (
        f"{what}: the newest is {_span(lag_seconds)} old ({newest_utc.isoformat()}), {verdict} the limit of"
        f" {_span(limit_seconds)}."
    )
    return FreshnessReport(fresh, newest_utc, lag_seconds, limit_seconds, reason)


def evaluate_unseen_rows(age: FreshnessReport, rows: int, limit: int | None) -> FreshnessReport:
    """The verdict on a model's age with the labelled rows that it has not seen: past either limit it is not fresh.

    Args:
        age: the verdict on the age alone.
        rows: rows whose label became known after the champion's holdout.
        limit: the most of them, itself still fresh; None for any number.
    """
    if limit is None:
        return replace(age, reason=f"{age.reason} It has not seen {rows:,} labelled rows.")
    verdict = "within" if rows <= limit else "past"
    reason = f"{age.reason} It has not seen {rows:,} labelled rows, {verdict} the limit of {limit:,}."
    return replace(age, fresh=age.fresh and rows <= limit, reason=reason)


def evaluate_segment_ages(
    age: FreshnessReport, until: Mapping[str, datetime], now: datetime, limit: timedelta
) -> tuple[FreshnessReport, tuple[str, ...]]:
    """The verdict on a fleet's age: that on its model of all rows, with the models of segments that are past the limit.

    Args:
        age: the verdict on the model of all rows.
        until: by segment, the end of its model's holdout.
        now: factory time.
        limit: the longest allowed age.

    Returns:
        The report, which is that of the oldest segment where only segments are past it; and those segments, oldest first.
    """
    stale = sorted((end, segment) for segment, end in until.items() if now - end > limit)
    if not stale:
        return age, ()
    end, segment = stale[0]
    oldest = evaluate_freshness(f"model of {segment}", end, now, limit)
    reason = f"{age.reason} {len(stale):,} of {len(until):,} models of segments are past the limit; {oldest.reason}"
    return replace(age if not age.fresh else oldest, reason=reason), tuple(segment for _, segment in stale)


def find_due_day(predictions_by: str, calendar: CalendarSpec, now: datetime) -> tuple[date, datetime] | None:
    """The newest day whose predictions are due, and since when; None before the first day of the calendar is due.

    A day is due at `predictions_by` of the next one, in the calendar's time zone.

    >>> calendar = CalendarSpec(start=date(2013, 1, 1), timezone="America/New_York")
    >>> find_due_day("06:00", calendar, datetime(2013, 3, 2, 10, 59, tzinfo=UTC))[0]
    datetime.date(2013, 2, 28)
    >>> find_due_day("06:00", calendar, datetime(2013, 3, 2, 11, 0, tzinfo=UTC))[0]
    datetime.date(2013, 3, 1)
    """
    zone, at = ZoneInfo(calendar.timezone), time.fromisoformat(predictions_by)
    delivery = now.astimezone(zone).date()
    if now < datetime.combine(delivery, at, zone):
        delivery -= timedelta(days=1)
    if calendar.end is not None:
        delivery = min(delivery, calendar.end)
    day = delivery - timedelta(days=1)
    return None if day < calendar.start else (day, datetime.combine(delivery, at, zone).astimezone(UTC))


def evaluate_delivery(
    day: date, due_utc: datetime, feature_rows: int, scored_rows: int, is_over: bool, is_usual: bool, waits_for: str = ""
) -> DeliveryReport:
    """Judges whether a day that is due is scored: every feature row of it has a score.

    A day without feature rows is no failure when features of a later day are there, or when that weekday never had any:
    then there is nothing to score.

    Args:
        day: the day.
        due_utc: since when.
        feature_rows: rows of the feature set on that day.
        scored_rows: those of them with a score.
        is_over: whether the feature set has rows of a later day.
        is_usual: whether it has rows on that weekday of one of the weeks before.
        waits_for: why the day is left unscored on purpose; empty when it is not.
    """
    due = f"due since {due_utc.isoformat()}"
    if waits_for:
        return DeliveryReport(False, day, due_utc, feature_rows, scored_rows, f"{day} is {due} and waits: {waits_for}")
    if not feature_rows:
        missing = is_usual and not is_over
        reason = f"{day} is {due}, and its features have not come." if missing else f"{day} has no rows to score."
        return DeliveryReport(not missing, day, due_utc, 0, scored_rows, reason)
    delivered = scored_rows >= feature_rows
    state = "is scored" if delivered else f"is {due}"
    reason = f"{day} {state}: {min(scored_rows, feature_rows):,} of {feature_rows:,} rows have a score."
    return DeliveryReport(delivered, day, due_utc, feature_rows, scored_rows, reason)


def _span(seconds: float) -> str:
    """Two units are enough to act on: '3d 4h', '3h 0m', '0h 5m'."""
    minutes = int(seconds // 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    return f"{days}d {hours}h" if days else f"{hours}h {minutes % 60}m"
