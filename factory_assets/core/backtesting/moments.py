"""The days of a replay: when each has closed, and when the factory looks at it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from factory_assets.contracts.calendar import CalendarSpec


@dataclass(frozen=True)
class Moment:
    """One look at the line. `days` have closed since the look before, `closed_utc` is the end of the last of them.

    Rows from `closed_utc` on have not arrived yet at `now`, whatever the lake holds by today.
    """

    days: tuple[date, ...]
    closed_utc: datetime
    now: datetime

    @property
    def day(self) -> date:
        """The newest closed day."""
        return self.days[-1]


def list_moments(calendar: CalendarSpec, first: date, last: date) -> list[Moment]:
    """A look a day for the days first..last, each when the daily run of the day after starts."""
    hour, minute = (int(part) for part in calendar.daily_at.split(":"))
    days = [first + timedelta(days=place) for place in range((last - first).days + 1)]
    return [look_at(calendar.timezone, [day], _local(calendar.timezone, day, time(hour, minute))) for day in days]


def look_at(timezone: str, days: Iterable[date], now: datetime) -> Moment:
    """A look at `now` after `days`, the last of which has closed by then.

    Raises:
        ValueError: for days that have not closed.
    """
    closed = tuple(sorted(days))
    end = _local(timezone, closed[-1], time())
    if now < end:
        raise ValueError(f"{closed[-1]} closes at {end.isoformat()} in {timezone}, after {now.isoformat()}")
    return Moment(closed, end, now)


def _local(timezone: str, day: date, at: time) -> datetime:
    """The instant of a time of the day after `day`."""
    return datetime.combine(day + timedelta(days=1), at, ZoneInfo(timezone)).astimezone(UTC)
