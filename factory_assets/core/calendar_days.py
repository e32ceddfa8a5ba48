"""The days of a calendar, seen from a moment of the factory clock."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from factory_assets.contracts.calendar import CalendarSpec


def closed_days(spec: CalendarSpec, now: datetime) -> tuple[date, date] | None:
    """First and last day that the daily run of `now` takes in; None before the first day has closed."""
    last = now.astimezone(ZoneInfo(spec.timezone)).date() - timedelta(days=1)
    if spec.end is not None:
        last = min(last, spec.end - timedelta(days=1))
    if last < spec.start:
        return None
    return max(spec.start, last - timedelta(days=spec.lookback_days - 1)), last
