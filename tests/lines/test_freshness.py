"""Features, model and predictions grow stale by the keys of the line, on real tables."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.contracts.incidents import Finding, Incident
from factory_assets.contracts.model_line import FreshnessSpec
from factory_assets.lines.judging import judge
from factory_assets.lines.scoring import score_days
from factory_assets.lines.training import train_line
from factory_assets.storage.tables.incidents import Incidents
from tests.lines.conftest import NOW, START, write_things

CALENDAR = CalendarSpec(start=START.date(), timezone="UTC")
NEWEST = START + timedelta(hours=24 * 60 - 1)


def with_freshness(stores: Any, **keys: Any) -> Any:
    spec = stores.spec.model_copy(update={"freshness": FreshnessSpec(**keys)})
    return replace(stores, spec=spec, calendar=CALENDAR, sources=("things",))


def train(stores: Any, now: datetime = NOW) -> None:
    stores.training_sets.build(now)
    train_line(stores, now, "run")


@pytest.mark.parametrize(("max_lag", "fresh"), [("36h", True), ("11h", False)])
def test_features_are_as_fresh_as_their_newest_row(stores: Any, max_lag: str, fresh: bool) -> None:
    line = with_freshness(stores, features_max_lag=max_lag)
    report = judge(line, "feature_freshness", NEWEST + timedelta(hours=12), "run")
    assert (report.passed, report.numbers["lag_hours"]) == (fresh, 12)


@pytest.mark.parametrize(("most", "fresh"), [(None, True), (24 * 5, True), (24 * 5 - 1, False)])
def test_a_model_is_stale_when_enough_labels_came_after_it(stores: Any, most: int | None, fresh: bool) -> None:
    train(stores)
    until = stores.versions.champion("delay").holdout_until_utc
    line = with_freshness(stores, model_max_unseen_rows=most)
    # One thing an hour, whose label is known two hours later: the first of the new labels is known an hour after the cut.
    report = judge(line, "model_age", until + timedelta(days=5), "run")
    assert (report.passed, report.numbers["unseen_labelled_rows"]) == (fresh, 24 * 5)


@pytest.mark.parametrize(
    ("predictions_by", "passed"), [("06:00", False), ("09:00", True)], ids=["past the deadline", "before it"]
)
def test_a_day_is_overdue_from_its_deadline_on(stores: Any, predictions_by: str, passed: bool) -> None:
    train(stores)
    line = with_freshness(stores, predictions_by=predictions_by)
    score_days(line, [date(2013, 2, 7), date(2013, 2, 8)], "UTC", NOW, "run")
    # On the tenth at eight: the ninth was due at six, and is not due yet when the deadline is nine.
    report = judge(line, "predictions_delivered", datetime(2013, 2, 10, 8, tzinfo=UTC), "run")
    assert report.passed is passed
    assert report.numbers["day"] == ("2013-02-08" if passed else "2013-02-09")


def test_predictions_are_delivered_when_every_row_of_the_day_has_a_score(stores: Any) -> None:
    line, eight = with_freshness(stores, predictions_by="06:00"), datetime(2013, 2, 10, 8, tzinfo=UTC)
    assert not judge(line, "predictions_delivered", eight, "run").passed
    train(stores)
    write_things(stores.lake, hours=24 * 39 + 20)
    score_days(line, [date(2013, 2, 9)], "UTC", eight, "run")
    assert judge(line, "predictions_delivered", eight, "run").numbers["scored_rows"] == 20
    write_things(stores.lake, hours=24 * 40)
    assert not judge(line, "predictions_delivered", eight, "run").passed
    score_days(line, [date(2013, 2, 9)], "UTC", eight, "run")
    delivered = judge(line, "predictions_delivered", eight, "run")
    assert (delivered.passed, delivered.numbers["scored_rows"]) == (True, 24)
    assert delivered.picture.startswith(b"\x89PNG")


def test_a_day_whose_features_have_not_come_is_overdue_as_well(stores: Any) -> None:
    write_things(stores.lake, hours=24 * 39)
    line = with_freshness(stores, predictions_by="06:00")
    report = judge(line, "predictions_delivered", datetime(2013, 2, 10, 8, tzinfo=UTC), "run")
    assert not report.passed
    assert "its features have not come" in report.summary


def test_an_overdue_day_names_the_feed_that_it_waits_for(stores: Any) -> None:
    finding = Finding("half_batch", "", 400, "about 980 rows", "400")
    day = date(2013, 2, 9)
    Incidents(stores.lake).write([Incident("things", day, "half_batch", "open", "f", (finding,), "half", NOW, NOW)])
    report = judge(with_freshness(stores, predictions_by="06:00"), "predictions_delivered", NOW + timedelta(hours=8), "run")
    assert not report.passed
    assert "waits: source things is broken: half" in report.summary


def test_before_the_first_day_is_over_nothing_is_due(stores: Any) -> None:
    report = judge(with_freshness(stores, predictions_by="06:00"), "predictions_delivered", START, "run")
    assert (report.passed, report.numbers["day"]) == (True, None)
