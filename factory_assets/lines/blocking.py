"""Which days of a line must not be scored, because a feed that they are made of is broken."""

from collections.abc import Collection, Iterable
from datetime import date, timedelta

from factory_assets.lines.stores import LineStores
from factory_assets.storage.incidents import Incidents


def find_blocked_days(stores: LineStores, days: Collection[date]) -> dict[date, str]:
    """The days that wait, each with the reason; none when the line goes on with what there is.

    Of a source without days the last good version stays, so it blocks no day.
    """
    if stores.spec.when_broken == "go_on" or not stores.sources:
        return {}
    blocked: dict[date, list[str]] = {}
    for incident in Incidents(stores.lake).read_open(stores.sources):
        if incident.day in days:
            blocked.setdefault(incident.day, []).append(f"source {incident.source} is broken: {incident.summary}")
    return {day: " ".join(reasons) for day, reasons in sorted(blocked.items())}


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
