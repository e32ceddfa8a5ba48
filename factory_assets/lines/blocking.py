"""Which days of a line must not be scored, because what they are made of is broken, and which were left out for that."""

from collections.abc import Collection, Iterable
from datetime import date, timedelta

from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.lines.stores import LineStores
from factory_assets.storage.sql import quote_identifier
from factory_assets.storage.tables.incidents import Incidents
from factory_assets.storage.tables.predictions import DAY_COLUMN

_SOME_SCORED = f"""
    with days as (select distinct timezone(?, {{as_of}})::date as day from features),
    scored as (select distinct {DAY_COLUMN} as day from predictions)
    select day from days
    where day not in (from scored) and day between (select min(day) from scored) and ?
    order by day
"""


def find_blocked_days(stores: LineStores, days: Collection[date]) -> dict[date, str]:
    """The days that wait, each with the reason: all with a hindrance of the line, and those of broken sources.

    A line with `when_broken: go_on` goes on with what there is of its sources. Of a source without days the last good
    version stays, so it blocks no day.
    """
    if stores.hindrance:
        return dict.fromkeys(sorted(days), stores.hindrance)
    if stores.spec.when_broken == "go_on" or not stores.sources:
        return {}
    blocked: dict[date, list[str]] = {}
    for incident in Incidents(stores.lake).read_open(stores.sources):
        if incident.day in days:
            blocked.setdefault(incident.day, []).append(f"source {incident.source} is broken: {incident.summary}")
    return {day: " ".join(reasons) for day, reasons in sorted(blocked.items())}


def find_unscored_days(stores: LineStores, calendar: CalendarSpec, last: date) -> list[date]:
    """Days up to `last` with feature rows and no predictions, from the first day that was ever scored; not blocked ones."""
    features = stores.lake.find(f"features/{stores.spec.feature_set}")
    predictions = stores.lake.find(stores.predictions.name)
    if features is None or predictions is None:
        return []
    sql = _SOME_SCORED.format(as_of=quote_identifier(stores.spec.as_of))
    found = stores.lake.query(sql, [calendar.timezone, last], features=features, predictions=predictions)
    days: list[date] = found.column("day").to_pylist()
    waiting = find_blocked_days(stores, days)
    return [day for day in days if day not in waiting]


def consecutive_days(days: Iterable[date]) -> list[list[date]]:
    """The days in spans without a gap, in order.

    >>> [len(span) for span in consecutive_days([date(2013, 1, 1), date(2013, 1, 2), date(2013, 1, 4)])]
    [2, 1]
    """
    spans: list[list[date]] = []
    for day in sorted(days):
        if spans and spans[-1][-1] == day - timedelta(days=1):
            spans[-1].append(day)
        else:
            spans.append([day])
    return spans
