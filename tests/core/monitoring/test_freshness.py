from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.core.monitoring.freshness import (
    evaluate_delivery,
    evaluate_freshness,
    evaluate_segment_ages,
    evaluate_unseen_rows,
    find_due_day,
)

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


@pytest.mark.parametrize(("limit", "fresh"), [(None, True), (500, True), (499, False)])
def test_a_young_model_is_stale_when_it_has_not_seen_too_many_labels(limit, fresh):
    report = evaluate_unseen_rows(evaluate_freshness("model", NOW, NOW, LIMIT), 500, limit)
    assert report.fresh is fresh
    assert "has not seen 500 labelled rows" in report.reason


def test_few_unseen_labels_do_not_make_an_old_model_young():
    old = evaluate_freshness("model", NOW - 2 * LIMIT, NOW, LIMIT)
    assert not evaluate_unseen_rows(old, 0, 500).fresh


NEW_YORK = CalendarSpec(start=date(2013, 1, 1), end=date(2014, 1, 1), timezone="America/New_York")


@given(after=st.timedeltas(-timedelta(days=30), timedelta(days=430)), hour=st.integers(0, 23))
def test_a_day_is_due_after_it_has_closed_and_stays_due_until_the_next(after, hour):
    now = datetime(2013, 1, 1, tzinfo=UTC) + after
    due = find_due_day(f"{hour:02}:00", NEW_YORK, now)
    if due is None:
        assert now.astimezone(ZoneInfo("America/New_York")) < datetime(2013, 1, 2, hour, tzinfo=ZoneInfo("America/New_York"))
        return
    day, since = due
    assert NEW_YORK.start <= day < NEW_YORK.end
    assert since <= now
    local = since.astimezone(ZoneInfo("America/New_York"))
    assert local.date() == day + timedelta(days=1)
    assert now - since < timedelta(hours=25) or day == NEW_YORK.end - timedelta(days=1)


@pytest.mark.parametrize(
    ("facts", "delivered", "said"),
    [
        ({"feature_rows": 48, "scored_rows": 48}, True, "is scored: 48 of 48"),
        ({"feature_rows": 48, "scored_rows": 47}, False, "47 of 48"),
        ({"feature_rows": 0, "is_over": False, "is_usual": True}, False, "its features have not come"),
        ({"feature_rows": 0, "is_over": True, "is_usual": True}, True, "no rows to score"),
        ({"feature_rows": 0, "is_over": False, "is_usual": False}, True, "no rows to score"),
        ({"feature_rows": 48, "scored_rows": 48, "waits_for": "source a is broken"}, False, "waits: source a is broken"),
    ],
)
def test_what_is_due_is_there_or_there_is_nothing_to_score(facts, delivered, said):
    given_facts = {"scored_rows": 0, "is_over": False, "is_usual": True, **facts}
    report = evaluate_delivery(date(2013, 6, 30), NOW, **given_facts)
    assert report.delivered is delivered
    assert said in report.reason


@pytest.mark.parametrize(("root", "fresh", "shown"), [(10, False, 45), (40, False, 40)])
def test_a_fleets_oldest_segments_are_named_beside_its_model_of_all_rows(root, fresh, shown):
    limit = timedelta(days=30)
    age = evaluate_freshness("model", NOW - timedelta(days=root), NOW, limit)
    ends = {segment: NOW - timedelta(days=days) for segment, days in {"a": 31, "b": 45, "c": 30, "d": 1}.items()}
    report, stale = evaluate_segment_ages(age, ends, NOW, limit)
    assert stale == ("b", "a")
    assert (report.fresh, report.lag_seconds) == (fresh, shown * 86_400)
    assert "2 of 4 models of segments are past the limit; model of b: the newest is 45d 0h old" in report.reason
    assert evaluate_segment_ages(age, {"c": ends["c"]}, NOW, limit) == (age, ())
