from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from factory_assets.components.calendar import build_partitions
from factory_assets.components.naming import DAILY_SCHEDULE, RANGE_END_TAG, RANGE_START_TAG
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.core.calendar_days import closed_days
from factory_assets.resources import ClockResource
from factory_assets.storage.clock import FactoryClock

NEW_YORK = CalendarSpec(start="2013-01-01", end="2013-12-31", timezone="America/New_York", lookback_days=3)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (datetime(2013, 1, 1, 12, tzinfo=UTC), None),
        (datetime(2013, 1, 2, 4, 59, tzinfo=UTC), None),  # still the first day in New York
        (datetime(2013, 1, 2, 5, tzinfo=UTC), (date(2013, 1, 1), date(2013, 1, 1))),
        (datetime(2013, 3, 11, 3, 59, tzinfo=UTC), (date(2013, 3, 7), date(2013, 3, 9))),  # the clock went forward
        (datetime(2013, 3, 11, 4, tzinfo=UTC), (date(2013, 3, 8), date(2013, 3, 10))),
        (datetime(2013, 11, 4, 5, tzinfo=UTC), (date(2013, 11, 1), date(2013, 11, 3))),  # and back
        (datetime(2026, 1, 1, tzinfo=UTC), (date(2013, 12, 28), date(2013, 12, 30))),  # the feed has ended
    ],
)
def test_the_daily_run_takes_in_the_days_that_have_closed_and_looks_back(now: datetime, expected: Any) -> None:
    assert closed_days(NEW_YORK, now) == expected


def test_a_year_has_a_partition_a_day_through_both_changes_of_the_clock() -> None:
    keys = build_partitions(NEW_YORK).get_partition_keys()
    assert len(keys) == len(set(keys)) == 364
    assert (keys[0], keys[-1]) == ("2013-01-01", "2013-12-30")


def test_the_schedule_asks_for_the_range_by_the_factory_clock(sandbox: Any, tmp_path: Path) -> None:
    schedule = sandbox.build().resolve_schedule_def(DAILY_SCHEDULE)
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 6 * * *", "America/New_York")
    clock = tmp_path / "clock.json"
    FactoryClock(clock).set(datetime(2013, 5, 2, 14, tzinfo=UTC))
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(
            instance=instance,
            resources={"clock": ClockResource(path=str(clock))},
            scheduled_execution_time=datetime(2026, 11, 23, 11, tzinfo=UTC),
        )
        (request,) = schedule.evaluate_tick(context).run_requests or []
    assert (request.tags[RANGE_START_TAG], request.tags[RANGE_END_TAG]) == ("2013-04-29", "2013-05-01")
    assert request.run_key == "2013-05-01"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"timezone": "New York"}, "is not a time zone"),
        ({"daily_at": "6 am"}, "is not a time of day"),
        ({"end": "2012-01-01"}, "is not after start"),
        ({"lookback_days": 0}, "greater than or equal to 1"),
    ],
)
def test_a_wrong_calendar_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CalendarSpec(**{"start": "2013-01-01", **changes})
