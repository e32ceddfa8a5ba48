"""How old something is, by event time, against its limit."""

from datetime import datetime, timedelta

from factory_assets.contracts.reports import FreshnessReport


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


def _span(seconds: float) -> str:
    """Two units are enough to act on: '3d 4h', '3h 0m', '0h 5m'."""
    minutes = int(seconds // 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    return f"{days}d {hours}h" if days else f"{hours}h {minutes % 60}m"
