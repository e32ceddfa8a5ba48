"""The replay against production's own functions on the same lake, and what it must not see, write or do twice."""

import hashlib
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from factory_assets.components.model_line.retraining import newest_instant
from factory_assets.contracts.backtest import BacktestReport
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.contracts.model_line import CheckKind, ModelLineSpec
from factory_assets.core.backtesting.moments import Moment, list_moments
from factory_assets.core.backtesting.policies import UnknownPolicyError
from factory_assets.lines.backtesting.backtest import Plan, run_backtest
from factory_assets.lines.backtesting.history import NothingToReplayError, read_history
from factory_assets.lines.backtesting.replay import Replay
from factory_assets.lines.backtesting.scores import Scorer
from factory_assets.lines.backtesting.trainings import Trainings
from factory_assets.lines.backtesting.windows import FeatureWindows
from factory_assets.lines.judging import judge
from factory_assets.lines.retrain_situation import read_due
from factory_assets.lines.scoring import score_days
from factory_assets.lines.training import train_line
from factory_assets.storage.delta.lake import TableSpec
from factory_assets.storage.tables.model_versions import PROMOTIONS
from tests.lines.conftest import SPEC, START, change_labels, write_things
from tests.lines.fleet_fixture import fleet_spec, write_fleet

CALENDAR = CalendarSpec(start=date(2013, 1, 1), timezone="UTC", daily_at="06:00")
DRIFT: tuple[CheckKind, ...] = ("feature_drift", "prediction_drift", "label_drift")
DAILY = {"triggers": ["schedule"], "schedule": "0 0 * * *", "cooldown": "1h"}
NEVER_OLD = {"retrain": {"triggers": ["model_age"]}, "freshness": {"model_max_age": "90d"}}
TABLES = ("features/feat_thing", "marts/fct_thing")
CHECKS: tuple[CheckKind, ...] = ("model_age", *DRIFT, "quality", "estimated_quality")


def with_policy(stores: Any, **retrain: Any) -> Any:
    return replace(stores, spec=changed(stores.spec, retrain=retrain))


def changed(spec: ModelLineSpec, **keys: Any) -> ModelLineSpec:
    return ModelLineSpec.model_validate({**spec.model_dump(exclude_unset=True), **keys})


def replay_of(stores: Any) -> Replay:
    history = read_history(stores.lake, stores.spec, CALENDAR.timezone)
    trainings = Trainings(stores, history)
    scorer = Scorer(history, trainings.shelf)
    return Replay(stores.spec, CALENDAR, history, trainings, scorer, FeatureWindows(history), newest_instant)


def moments(first: int, last: int) -> list[Moment]:
    return list_moments(CALENDAR, *((START + timedelta(days=day)).date() for day in (first, last)))


def backtest(stores: Any, *policies: str, **plan: Any) -> BacktestReport:
    return run_backtest(stores, CALENDAR, Plan(policies, policies[-1], **plan), newest_instant)


def asked(replay: Replay) -> list[tuple[date, tuple[str, ...], str]]:
    return [(retrain.day, retrain.triggers, retrain.outcome) for retrain in replay.retrains]


def delay_labels(stores: Any, days: int) -> None:
    """Every label becomes known so much later."""
    labels = stores.lake.query(f"select * replace (known_at + interval {days} day as known_at) from t", t=labels_of(stores))
    stores.lake.replace(TableSpec("marts/fct_thing", labels.schema, ("id",)), labels)


def labels_of(stores: Any) -> Any:
    return stores.lake.pin("marts/fct_thing")


# --- As production ---


class Arrivals:
    """A lake on which rows are there only once their day has closed, as in production; the whole is kept aside."""

    def __init__(self, stores: Any) -> None:
        self.stores = stores
        self.whole = {name: stores.lake.query("select * from t", t=stores.lake.pin(name)) for name in TABLES}

    def until(self, moment: Moment) -> None:
        features = self.whole[TABLES[0]]
        here = features.filter(pa.compute.less(features["at"], pa.scalar(moment.closed_utc)))
        ids = pa.compute.is_in(self.whole[TABLES[1]]["id"], here["id"].combine_chunks())
        for name, rows in zip(TABLES, (here, self.whole[TABLES[1]].filter(ids)), strict=True):
            self.stores.lake.replace(TableSpec(name, rows.schema, ("id",)), rows)


@pytest.mark.parametrize("trouble", ["none", "features", "labels"])
def test_verdicts_are_those_that_production_gives(stores, trouble: str) -> None:
    """Trained on day 30 and judged on day 50, with features that shifted on day 33, or other labels from day 40 on."""
    write_things(stores.lake, shift=1.5 if trouble == "features" else 0.0)
    if trouble == "labels":
        change_labels(stores.lake, flip=True, more=True)
    stores = with_policy(stores, triggers=list(CHECKS), cooldown="90d")
    replay, arrivals, looks = replay_of(stores), Arrivals(stores), moments(29, 49)
    replay.play(looks)
    arrivals.until(looks[0])
    stores.training_sets.build(looks[0].now)
    train_line(stores, looks[0].now, "run")
    arrivals.until(looks[-1])
    score_days(stores, [look.day for look in looks], "UTC", looks[-1].now, "run")
    failed = set()
    for check in CHECKS:
        mine = replay._judge.judge(check, replay.reign, looks[-1])
        production = judge(stores, check, looks[-1].now, "run")
        assert (mine.failed is None, mine.data_as_of_utc) == (production.passed, production.data_as_of_utc), check
        if mine.failed is not None:
            failed.add(check)
            assert mine.failed.champion_version == production.champion_version
            assert mine.failed.segments == production.failing_segments
            assert check == "label_drift" or mine.failed.summary == production.summary
    assert failed >= {"none": set(), "features": {"feature_drift"}, "labels": {"label_drift"}}[trouble]
    assert "model_age" not in failed


def test_a_training_is_the_one_that_production_does(stores) -> None:
    stores = with_policy(stores, **DAILY)
    replay, arrivals, looks = replay_of(stores), Arrivals(stores), moments(29, 39)
    for moment in (looks[0], looks[-1]):
        replay.look(moment)
        arrivals.until(moment)
        stores.training_sets.build(moment.now)
        train_line(stores, moment.now, "run")
    rows = stores.lake.rows(PROMOTIONS)
    assert [retrain.reason for retrain in replay.retrains] == [row["reason"] for row in rows]
    champion, mine = stores.versions.champion("delay"), replay.reign.champion
    assert mine.trained.evaluation == champion.evaluation
    assert replay.reign.standing.serving["all"].artefact_sha256 == champion.artefact_sha256


@pytest.mark.parametrize("window", [None, "10d"])
def test_a_share_of_new_rows_is_due_on_the_day_on_which_production_finds_it_due(stores, window: str | None) -> None:
    delay_labels(stores, 1)  # a label of a day that has not closed counts in a replay, see "What it cannot know"
    validation = SPEC.validation.model_dump(exclude_unset=True) | ({"window": window} if window else {})
    policy = {"triggers": ["new_rows"], "new_rows": "9%", "cooldown": "1d"}
    stores = replace(stores, spec=changed(stores.spec, validation=validation, retrain=policy))
    replay, arrivals, looks = replay_of(stores), Arrivals(stores), moments(29, 35)
    replay.look(looks[0])
    arrivals.until(looks[0])
    stores.training_sets.build(looks[0].now)
    train_line(stores, looks[0].now, "run")
    due = []
    for look in looks[1:]:
        arrivals.until(look)
        found = read_due(stores, replay.book.history(), replay.reign.versions, newest_instant, (look.now, look.now))
        assert [check.summary for check in replay._due(look)] == [check.summary for check in found]
        due.append(bool(found))
    assert set(due) == {False, True}


def test_a_fleet_is_trained_and_judged_as_in_production(stores) -> None:
    write_fleet(stores.lake)
    stores = replace(stores, spec=fleet_spec(retrain=DAILY))
    replay, arrivals, looks = replay_of(stores), Arrivals(stores), moments(39, 49)
    for moment in (looks[0], looks[-1]):
        replay.look(moment)
        arrivals.until(moment)
        stores.training_sets.build(moment.now)
        train_line(stores, moment.now, "run")
    standing, mine = stores.versions.standing("delay"), replay.reign.standing
    assert set(mine.serving) == set(standing.serving) > {"all"}
    for segment, known in standing.segments.items():
        ours = mine.segments[segment]
        assert (ours.cycle, ours.outcome, ours.serves) == (known.cycle, known.outcome, known.serves), segment
        if known.champion is not None:
            assert ours.champion.artefact_sha256 == known.champion.artefact_sha256
    window = [looks[-1].day - timedelta(days=place) for place in range(15)]
    score_days(stores, window, "UTC", looks[-1].now, "run")
    replay._score(window[-1], window[0], first_time=False)
    for check in DRIFT[:2]:
        production = judge(stores, check, looks[-1].now, "run")
        verdict = replay._judge.judge(check, replay.reign, looks[-1])
        assert (verdict.failed is None) == production.passed
        past = replay._judge._past[check]
        assert len(past[max(past)].segments) == production.numbers["judged_segments"] > 0


# --- No look into the future ---


def test_what_comes_later_changes_nothing_that_was_decided_before(stores) -> None:
    """The same days on a lake that ends with them, and on one that goes on with shifted features and other labels."""
    policy = {"triggers": ["model_age", "feature_drift", "quality", "new_rows"], "new_rows": 60, "cooldown": "3d"}
    write_things(stores.lake, shift=5.0)
    change_labels(stores.lake, flip=True, more=True)
    long = replay_of(with_policy(stores, **policy))
    Arrivals(stores).until(moments(33, 33)[0])
    short = replay_of(with_policy(stores, **policy))
    short.play(moments(27, 32))
    long.play(moments(27, 32))
    assert asked(short) == asked(long)
    assert len(asked(short)) > 1
    assert np.isfinite(short.scores.first).sum() == 24 * 5
    assert np.array_equal(short.scores.first[: 24 * 33], long.scores.first[: 24 * 33], equal_nan=True)
    long.play(moments(33, 50))
    assert any("feature_drift" in triggers for _, triggers, _ in asked(long))


def test_a_label_counts_from_the_day_on_which_it_would_have_arrived(stores) -> None:
    """Labels turn over on day 40 and come eight days late: the check of quality fails on day 48 at the earliest."""
    change_labels(stores.lake, flip=True, more=True)
    delay_labels(stores, 8)
    spec = changed(
        SPEC,
        validation={"holdout": "10d", "min_rows": 30},
        quality={"window": "12d", "min_rows": 60, "max_loss": 0.4},
        retrain={"triggers": ["quality"], "cooldown": "1d"},
    )
    honest, peeking = (replay_of(replace(stores, spec=spec)) for _ in range(2))
    at_once = replace(peeking.history, known_at=peeking.history.as_of)
    peeking.history = peeking._judge.history = peeking.trainings.history = at_once
    days = []
    for replay in (honest, peeking):
        replay.play(moments(29, 58))
        days.append(next(retrain.day for retrain in replay.retrains if retrain.triggers == ("quality",)))
    first_possible = (START + timedelta(days=48)).date()
    assert days[0] >= first_possible > days[1] >= first_possible - timedelta(days=8)


def test_a_training_window_ends_before_the_day_of_the_decision(stores) -> None:
    delay_labels(stores, 3)
    replay = replay_of(with_policy(stores, triggers=["model_age"]))
    (moment,) = moments(29, 29)
    rows, count = replay.history.learnable(moment)
    assert rows.num_rows == count == 24 * 30 - 3 * 24 + 5  # known by six in the morning, two hours and three days late
    assert max(rows.column("at").to_pylist()) <= moment.now - timedelta(days=3, hours=2)
    # Features that are there today had not arrived on the morning after.
    assert replay.history.arrived(moment) == 24 * 30
    assert replay.history.between((START, moment.now + timedelta(days=9)), moment).stop == 24 * 30


# --- What it costs, and leaves alone ---


def test_nothing_is_written_anywhere(stores, tmp_path: Path) -> None:
    def files() -> dict[str, str]:
        found = [path for path in tmp_path.rglob("*") if path.is_file()]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}

    before = files()
    backtest(stores, "never", "weekly", "on_drift", "on_quality", "own")
    assert files() == before


def test_a_training_that_two_policies_ask_for_is_fitted_once_and_costs_both(stores) -> None:
    own = replace(stores, spec=changed(SPEC, **NEVER_OLD))
    report = backtest(own, "never", "weekly", "daily", "own", price_per_cpu_hour=3600.0)
    never, weekly, daily, own = report.policies
    retrains = sum(len(outcome.retrains) for outcome in report.policies)
    assert report.fits == len(daily.retrains) < retrains
    assert [len(outcome.retrains) for outcome in (never, own)] == [1, 1]
    assert len(weekly.retrains) == 1 + sum(day.weekday() == 6 for day in _days(report))
    for outcome in report.policies:
        cpu = outcome.training_cpu_seconds + outcome.scoring_cpu_seconds
        assert outcome.price == pytest.approx(cpu)
        assert outcome.training_cpu_seconds == pytest.approx(sum(r.cpu_seconds for r in outcome.retrains))
    assert 0 < never.training_cpu_seconds < weekly.training_cpu_seconds < daily.training_cpu_seconds
    assert never.difference.cost_saved == pytest.approx(1 - never.price / own.price)


def _days(report: BacktestReport) -> list[date]:
    count = (report.last - report.first).days
    return [report.first + timedelta(days=place) for place in range(1, count + 1)]


def test_policies_with_the_same_models_are_equally_good_and_a_model_that_goes_bad_is_seen(stores) -> None:
    change_labels(stores.lake, flip=True)
    report = backtest(replace(stores, spec=changed(SPEC, **NEVER_OLD)), "own", "daily", "never")
    own, daily, never = report.policies
    assert never.difference is None
    assert (own.difference.gain, own.difference.low, own.difference.high) == (0.0, 0.0, 0.0)
    assert own.value == never.value
    assert report.rows == 24 * (report.last - report.first).days
    weeks = [value for _, value in never.weeks]
    assert weeks[0] > 0.9
    assert weeks[-1] < 0.6
    assert daily.promotions >= 1


def test_a_first_training_on_too_little_is_tried_again_the_next_day(stores) -> None:
    early = backtest(stores, "weekly", "own", first=date(2013, 1, 7), last=date(2013, 1, 30))
    for outcome in early.policies:
        results = [retrain.outcome for retrain in outcome.retrains]
        assert results[0] == "failed"
        assert "promoted" in results
        assert "validation.min_rows is 50" in outcome.retrains[0].reason


@pytest.mark.parametrize(("first", "last"), [(date(2013, 3, 20), None), (None, date(2013, 1, 20)), (date(2012, 1, 1), None)])
def test_days_outside_the_history_are_refused_with_its_span(stores, first: date | None, last: date | None) -> None:
    with pytest.raises(NothingToReplayError, match="goes from 2013-01-01 to 2013-03-01"):
        backtest(stores, "never", first=first, last=last)


def test_a_lake_without_labels_says_what_to_do(stores) -> None:
    empty = stores.lake.query("select * from t limit 0", t=labels_of(stores))
    stores.lake.replace(TableSpec("marts/fct_thing", empty.schema, ("id",)), empty)
    with pytest.raises(NothingToReplayError, match="Take in days first"):
        backtest(stores, "never")


def test_a_misspelt_policy_is_told_from_its_neighbours(stores) -> None:
    with pytest.raises(UnknownPolicyError, match="did you mean 'weekly'"):
        backtest(stores, "weekley")


def test_a_fleet_is_replayed_with_its_segments(stores) -> None:
    write_fleet(stores.lake)
    stores = replace(stores, spec=fleet_spec(validation={"holdout": "10d", "min_rows": 50}))
    report = backtest(stores, "never", "monthly", "on_drift")
    assert [len(outcome.retrains) for outcome in report.policies][:2] == [1, 2]
    # Without the routes' own models, of which two obey opposite rules, it would be far less.
    assert all(outcome.value > 0.75 for outcome in report.policies)
    assert report.fits > 2


def test_now_is_never_before_the_day_has_closed() -> None:
    looks = list_moments(
        CalendarSpec(start=date(2013, 3, 9), timezone="America/New_York"), date(2013, 3, 9), date(2013, 3, 10)
    )
    assert [look.now.isoformat() for look in looks] == ["2013-03-10T10:00:00+00:00", "2013-03-11T10:00:00+00:00"]
    assert all(look.closed_utc < look.now for look in looks)
