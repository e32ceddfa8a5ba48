from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory_assets.core.freshness import evaluate_freshness

NOW = datetime(2013, 7, 1, 12, tzinfo=UTC)
LIMIT = timedelta(hours=36)


def test_what_was_never_reported_is_not_fresh():
    report = evaluate_freshness("flights", None, NOW, LIMIT)
    assert (report.fresh, report.newest_utc, report.lag_seconds) == (False, None, None)
    assert "nothing was ever reported" in report.reason


@pytest.mark.parametrize(("hours", "fresh"), [(0, True), (36, True), (36.001, False), (500, False)])
def test_the_limit_itself_is_fresh(hours, fresh):
    report = evaluate_freshness("flights", NOW - timedelta(hours=hours), NOW, LIMIT)
    assert report.fresh is fresh
    assert report.lag_seconds == pytest.approx(hours * 3600)
    assert report.limit_seconds == 36 * 3600


def test_the_reason_says_what_how_old_and_the_limit():
    reason = evaluate_freshness("model", NOW - timedelta(days=40), NOW, timedelta(days=30)).reason
    assert reason == "model: the newest is 40d 0h old (2013-05-22T12:00:00+00:00), past the limit of 30d 0h."


def test_the_future_has_no_negative_lag_and_the_reason_says_so():
    report = evaluate_freshness("flights", NOW + timedelta(hours=3), NOW, LIMIT)
    assert (report.fresh, report.lag_seconds) == (True, 0.0)
    assert "3h 0m after now" in report.reason
    assert "clock was set back" in report.reason


def test_time_zones_are_instants():
    eastern = timezone(timedelta(hours=-5))
    assert evaluate_freshness("x", NOW.astimezone(eastern), NOW, LIMIT).lag_seconds == 0.0


@pytest.mark.parametrize(("newest", "now"), [(NOW.replace(tzinfo=None), NOW), (None, NOW.replace(tzinfo=None))])
def test_naive_times_are_refused(newest, now):
    with pytest.raises(ValueError, match="timezone-aware"):
        evaluate_freshness("flights", newest, now, LIMIT)


@given(st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.just(UTC)), st.timedeltas(timedelta(0)))
def test_fresh_means_that_the_lag_is_within_the_limit_and_never_negative(newest, now, limit):
    report = evaluate_freshness("x", newest, now, limit)
    assert report.lag_seconds >= 0
    assert report.fresh == (now - newest <= limit)
