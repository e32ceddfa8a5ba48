"""What is planted into a day's rows: ten kinds of breakage, four of each, and genuine changes that must go through."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

Row = dict[str, str]
# The day's own rows, those of the day `back` days before, and a seeded source of chance.
Change = Callable[[list[Row], list[Row], random.Random], list[Row]]
NULL = "NA"


@dataclass(frozen=True)
class Plant:
    """One change of one source's day. `kind` is empty for a genuine change; `twin` lands the rows again in a second file."""

    title: str
    source: str
    kind: str
    change: Change
    back: int = 1
    twin: bool = False


def _emptied(column: str, share: float) -> Change:
    return lambda rows, before, chance: [{**row, column: NULL} if chance.random() < share else row for row in rows]


def _scaled(column: str, factor: float, share: float = 1.0) -> Change:
    def change(rows: list[Row], before: list[Row], chance: random.Random) -> list[Row]:
        return [
            {**row, column: _number(float(row[column]) * factor)} if row[column] != NULL and chance.random() < share else row
            for row in rows
        ]

    return change


def _moved(column: str, by: float) -> Change:
    return lambda rows, before, chance: [
        {**row, column: _number(float(row[column]) + by)} if row[column] != NULL else row for row in rows
    ]


def _swapped(one: str, other: str) -> Change:
    return lambda rows, before, chance: [{**row, one: row[other], other: row[one]} for row in rows]


def _stuck(column: str, where: Callable[[Row], bool]) -> Change:
    def change(rows: list[Row], before: list[Row], chance: random.Random) -> list[Row]:
        value = next(row[column] for row in rows if where(row) and row[column] != NULL)
        return [{**row, column: value} if where(row) else row for row in rows]

    return change


def _shifted(hours: int) -> Change:
    return lambda rows, before, chance: [{**row, "time_hour": _later(row["time_hour"], hours)} for row in rows]


def _restamped(rows: list[Row], before: list[Row], chance: random.Random) -> list[Row]:
    """The rows of an earlier day with the date of this one."""
    today = {name: rows[0][name] for name in ("year", "month", "day")}
    days = round((_instant(rows[0]["time_hour"]) - _instant(before[0]["time_hour"])) / timedelta(days=1))
    return [{**row, **today, "time_hour": _later(row["time_hour"], 24 * days)} for row in before]


def _renumbered(rows: list[Row], before: list[Row], chance: random.Random) -> list[Row]:
    return rows + [{**row, "flight": str(int(row["flight"]) + 5000)} for row in rows]


def _storm(rows: list[Row], before: list[Row], chance: random.Random) -> list[Row]:
    outcomes = dict.fromkeys(("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"), NULL)
    return [{**row, **outcomes} if chance.random() < 0.4 else row for row in rows]


def _without(column: str) -> Change:
    return lambda rows, before, chance: [{k: v for k, v in row.items() if k != column} for row in rows]


def _renamed(column: str, name: str) -> Change:
    return lambda rows, before, chance: [{(name if k == column else k): v for k, v in row.items()} for row in rows]


def _headless(rows: list[Row], before: list[Row], chance: random.Random) -> list[Row]:
    return [dict(zip(rows[0].values(), row.values(), strict=False)) for row in rows[1:]]


def _sample(share: float) -> Change:
    return lambda rows, before, chance: [row for row in rows if chance.random() < share]


def _more_of(column: str, value: str, share: float) -> Change:
    """A part of the other rows becomes rows of `value`."""
    return lambda rows, before, chance: [{**row, column: value} if chance.random() < share else row for row in rows]


def _number(value: float) -> str:
    return str(round(value)) if float(value).is_integer() else f"{value:.2f}"


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _later(text: str, hours: int) -> str:
    return (_instant(text) + timedelta(hours=hours)).isoformat().replace("+00:00", "Z")


def _same(rows: list[Row], before: list[Row], chance: random.Random) -> list[Row]:
    return rows


def _nothing(rows: list[Row], before: list[Row], chance: random.Random) -> list[Row]:
    return []


PLANTS: tuple[Plant, ...] = (
    Plant("departure delay missing in 30%", "flights", "null_burst", _emptied("dep_delay", 0.3)),
    Plant("tail number missing", "flights", "null_burst", _emptied("tailnum", 1.0)),
    Plant("temperature missing in 30%", "weather", "null_burst", _emptied("temp", 0.3)),
    Plant("air time missing in 60%", "flights", "null_burst", _emptied("air_time", 0.6)),
    Plant("air time times 1000", "flights", "unit_change", _scaled("air_time", 1000)),
    Plant("departure delay times 1000", "flights", "unit_change", _scaled("dep_delay", 1000)),
    Plant("temperature times 1000", "weather", "unit_change", _scaled("temp", 1000)),
    Plant("distance times 1000 in a third of the rows", "flights", "unit_change", _scaled("distance", 1000, 0.33)),
    Plant("first half of the file", "flights", "half_batch", lambda rows, before, chance: rows[: len(rows) // 2]),
    Plant("every second row", "flights", "half_batch", lambda rows, before, chance: rows[::2]),
    Plant("first half of the file", "weather", "half_batch", lambda rows, before, chance: rows[: len(rows) // 2]),
    Plant("a random half", "weather", "half_batch", _sample(0.5)),
    Plant("the file under a second name", "flights", "double_load", _same, twin=True),
    Plant("each row twice in the file", "flights", "double_load", lambda rows, before, chance: rows + rows),
    Plant("each row twice in the file", "weather", "double_load", lambda rows, before, chance: rows + rows),
    Plant("each row again under a new key", "flights", "double_load", _renumbered),
    Plant("yesterday under new stamps", "flights", "frozen_feed", _restamped),
    Plant("yesterday under new stamps", "weather", "frozen_feed", _restamped),
    Plant("last week under new stamps", "flights", "frozen_feed", _restamped, back=7),
    Plant("three days ago under new stamps", "weather", "frozen_feed", _restamped, back=3),
    Plant("a column dropped", "flights", "schema_change", _without("air_time")),
    Plant("a column renamed", "weather", "schema_change", _renamed("temp", "temperature")),
    Plant(
        "numbers with their unit",
        "weather",
        "schema_change",
        lambda rows, before, chance: [{**row, "temp": f"{row['temp']} F"} for row in rows],
    ),
    Plant("the header lost", "flights", "schema_change", _headless),
    Plant("delay and air time", "flights", "swapped_columns", _swapped("dep_delay", "air_time")),
    Plant("scheduled departure and arrival", "flights", "swapped_columns", _swapped("sched_dep_time", "sched_arr_time")),
    Plant("temperature and dew point", "weather", "swapped_columns", _swapped("temp", "dewp")),
    Plant("humidity and pressure", "weather", "swapped_columns", _swapped("humid", "pressure")),
    Plant("temperature of one airport", "weather", "stuck_value", _stuck("temp", lambda row: row["origin"] == "JFK")),
    Plant("humidity for half a day", "weather", "stuck_value", _stuck("humid", lambda row: int(row["hour"]) >= 12)),
    Plant("departure delay", "flights", "stuck_value", _stuck("dep_delay", lambda row: True)),
    Plant("dew point of one airport", "weather", "stuck_value", _stuck("dewp", lambda row: row["origin"] == "EWR")),
    Plant("no file", "flights", "late_partition", _nothing),
    Plant("no file", "weather", "late_partition", _nothing),
    Plant("no file", "flights", "late_partition", _nothing, back=2),
    Plant("no file", "weather", "late_partition", _nothing, back=2),
    Plant("five hours late", "flights", "timezone_shift", _shifted(5)),
    Plant("five hours late", "weather", "timezone_shift", _shifted(5)),
    Plant("four hours early", "flights", "timezone_shift", _shifted(-4)),
    Plant("five hours early", "weather", "timezone_shift", _shifted(-5)),
    Plant("all delays 20 minutes longer", "flights", "", _moved("dep_delay", 20)),
    Plant("delays twice as long", "flights", "", _scaled("dep_delay", 2)),
    Plant("a storm: 40% cancelled", "flights", "", _storm),
    Plant("a fifth of the flights dropped", "flights", "", _sample(0.8)),
    Plant("another carrier takes over a third", "flights", "", _more_of("carrier", "9E", 0.33)),
    Plant("headwind: air time 15% longer", "flights", "", _scaled("air_time", 1.15)),
    Plant("a cold spell", "weather", "", lambda r, b, c: _moved("temp", -14)(_moved("dewp", -14)(r, b, c), b, c)),
    Plant("a windy day", "weather", "", _scaled("wind_speed", 2)),
    Plant("low pressure", "weather", "", _moved("pressure", -12)),
    Plant("some temperatures missing", "weather", "", _emptied("temp", 0.06)),
)
