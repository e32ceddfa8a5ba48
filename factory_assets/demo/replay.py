"""Lands history day by day: each day's files hold what was known when they landed, and the rest comes late."""

import shutil
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from factory_assets.demo.flights import STATIC_TABLES, FlightData
from factory_assets.storage.clock import FactoryClock

NEW_YORK = ZoneInfo("America/New_York")
_LANDING_TIME = time(10, 0)
# A flight delayed by a day and more still has its outcome within this many landings.
_LATE_DAYS = 3
_OUTCOMES_OF_DEPARTURE = ("dep_time", "dep_delay")
_OUTCOMES_OF_ARRIVAL = ("arr_time", "arr_delay", "air_time")
_PLAIN = [
    "year",
    "month",
    "day",
    "{dep_time}",
    "sched_dep_time",
    "{dep_delay}",
    "{arr_time}",
    "sched_arr_time",
    "{arr_delay}",
    "carrier",
    "flight",
    "tailnum",
    "origin",
    "dest",
    "{air_time}",
    "distance",
    "hour",
    "minute",
    "time_hour",
]


def landing_instant(day: date) -> datetime:
    """When the files of `day` arrive: ten in the morning of the next day, New York time; UTC."""
    return datetime.combine(day + timedelta(days=1), _LANDING_TIME, NEW_YORK).astimezone(UTC)


@dataclass(frozen=True)
class Replay:
    """Writes raw files below `landing` and moves the factory clock; doing a day again writes the same bytes."""

    data: FlightData
    landing: Path
    clock: FactoryClock

    def land(self, first: date, last: date) -> int:
        """Lands the days first..last and sets the clock to the landing of `last`; returns the number of files."""
        written = self._land_static()
        day = first
        while day <= last:
            written += self._land_day(day)
            day += timedelta(days=1)
        self.clock.set(landing_instant(last))
        return written

    def _land_static(self) -> int:
        for table in STATIC_TABLES:
            target = self.landing / table / f"{table}.csv"
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                draft = target.with_name(f".{target.name}.draft")
                shutil.copyfile(self.data.folder / f"{table}.csv", draft)
                draft.replace(target)
        return len(STATIC_TABLES)

    def _land_day(self, day: date) -> int:
        written = self._write(f"flights/{day}.csv", _flights_sql(day, landing_instant(day)))
        written += self._write(
            f"weather/{day}.csv", f"select * exclude (weather_day) from weather where weather_day = '{day}'"
        )
        for age in range(1, _LATE_DAYS + 1):
            flown = day - timedelta(days=age)
            known_before = landing_instant(day - timedelta(days=1))
            late = f"where arrival_known_at > '{known_before}' and arrival_known_at <= '{landing_instant(day)}'"
            written += self._write(f"flights/{flown}.late-{day}.csv", _flights_sql(flown, landing_instant(day), late))
        return written

    def _write(self, name: str, sql: str) -> int:
        """One CSV file, whole or not at all; no file for no rows."""
        target = self.landing / name
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.draft")
        rows = self.data.connection.execute(f"copy ({sql}) to '{_quoted(draft)}' (header, nullstr 'NA')").fetchone()
        if rows is None or rows[0] == 0:
            draft.unlink(missing_ok=True)
            return 0
        draft.replace(target)
        return 1


def _flights_sql(day: date, known_at: datetime, late: str = "") -> str:
    """Flights of `day` with the outcomes that were known at `known_at`."""
    columns = {
        **{c: f"case when departed_at <= '{known_at}' then {c} end as {c}" for c in _OUTCOMES_OF_DEPARTURE},
        **{c: f"case when arrival_known_at <= '{known_at}' then {c} end as {c}" for c in _OUTCOMES_OF_ARRIVAL},
    }
    selected = ", ".join(part.format(**columns) if part.startswith("{") else part for part in _PLAIN)
    flown = f"select * from flights where flight_day = '{day}'"
    return f"select {selected} from ({flown}) {late} order by time_hour, carrier, flight, origin, dest"


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
