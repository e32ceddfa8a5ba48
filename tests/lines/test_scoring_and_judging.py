from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from factory_assets.components.model_line.checks import check_keys
from factory_assets.contracts.drift_policy import HysteresisSpec
from factory_assets.contracts.model_line import QualitySpec, SkewSpec
from factory_assets.lines.judging import judge
from factory_assets.lines.scoring import ScoringOutcome, score_changed_days, score_days
from factory_assets.lines.training import train_line
from factory_assets.storage.delta.lake import TableSpec
from factory_assets.storage.tables.check_results import CHECK_RESULTS
from factory_assets.storage.tables.drift_results import DRIFT_RESULTS
from factory_assets.storage.tables.feature_hashes import FEATURE_HASHES
from tests.lines.conftest import NOW, START, change_labels, predict_as_served, write_things


def train(stores: Any, now: datetime = NOW) -> None:
    stores.training_sets.build(now)
    train_line(stores, now, "run")


def score(stores: Any, first: date, last: date, now: datetime = NOW) -> ScoringOutcome | None:
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return score_days(stores, days, "UTC", now, "run-1")


def read(stores: Any, columns: str = "*") -> list[dict[str, Any]]:
    return stores.lake.query(f"select {columns} from t order by id", t=stores.lake.pin("predictions/delay")).to_pylist()


def test_without_a_champion_nothing_is_scored(stores) -> None:
    assert score(stores, date(2013, 2, 1), date(2013, 2, 2)) is None


def test_each_row_says_what_made_it(stores) -> None:
    train(stores)
    outcome = score(stores, date(2013, 2, 1), date(2013, 2, 2))
    rows = read(stores)
    assert outcome.rows == len(rows) == 48
    assert {(r["model_version"], r["feature_set_version"], r["dagster_run_id"]) for r in rows} == {(1, 0, "run-1")}
    assert {r["prediction_date"] for r in rows} == {date(2013, 2, 1), date(2013, 2, 2)}
    champion = stores.versions.champion("delay")
    assert {r["in_sample"] for r in rows if r["at"] <= champion.trained_until_utc} == {True}


def test_a_day_scored_twice_is_there_once_and_other_days_stay(stores) -> None:
    train(stores)
    score(stores, date(2013, 2, 1), date(2013, 2, 2))
    before = read(stores)
    score(stores, date(2013, 2, 2), date(2013, 2, 2))
    assert read(stores) == before


def test_predictions_from_before_hashes_were_kept_are_scored_on_and_left_as_they_are(stores) -> None:
    train(stores)
    score(stores, date(2013, 2, 5), date(2013, 2, 6))
    known = stores.lake.query("select * exclude (features_hash) from t", t=stores.lake.pin("predictions/delay"))
    stores.lake.replace(TableSpec("predictions/delay", known.schema, ("id",), ("prediction_date",)), known)
    assert score_changed_days(stores, [], "UTC", NOW, "run-2") == []
    score(stores, date(2013, 2, 6), date(2013, 2, 6))
    assert len(read(stores)) == 48
    write_things(stores.lake, shift=1.0)
    assert score_changed_days(stores, [], "UTC", NOW, "run-2") == [date(2013, 2, 6)]
    assert {row["prediction_date"] for row in read(stores) if row["dagster_run_id"] == "run-2"} == {date(2013, 2, 6)}


def test_rows_later_than_now_are_not_scored(stores) -> None:
    train(stores)
    outcome = score(stores, date(2013, 2, 9), date(2013, 2, 11), now=NOW)
    assert max(row["at"] for row in read(stores)) < NOW
    assert outcome.rows == 24


def test_scoring_takes_the_path_of_evaluation(stores) -> None:
    train(stores)
    score(stores, date(2013, 2, 5), date(2013, 2, 5))
    day = "select * from t where \"at\"::date = '2013-02-05' order by id"
    rows = stores.lake.query(day, t=stores.training_sets.pin_features())
    again = predict_as_served(stores, rows.to_pandas())
    assert [row["score"] for row in read(stores)] == again.tolist()


def test_fresh_data_passes_and_stale_data_fails_by_event_time(stores) -> None:
    newest = START + timedelta(hours=24 * 60 - 1)
    assert judge(stores, "feature_freshness", newest + timedelta(hours=36), "run").passed
    late = judge(stores, "feature_freshness", newest + timedelta(hours=37), "run")
    assert not late.passed
    assert late.numbers["lag_hours"] == 37


def test_a_line_without_a_model_fails_its_age_and_passes_its_drift(stores) -> None:
    age = judge(stores, "model_age", NOW, "run")
    assert (age.passed, age.champion_version) == (False, 0)
    assert judge(stores, "feature_drift", NOW, "run").passed


def test_a_model_grows_old(stores) -> None:
    train(stores)
    assert judge(stores, "model_age", NOW + timedelta(days=30), "run").passed
    assert not judge(stores, "model_age", NOW + timedelta(days=31), "run").passed


@pytest.mark.parametrize(("shift", "passed"), [(0.0, True), (2.0, False)])
def test_features_and_predictions_drift_when_the_world_does(stores, shift: float, passed: bool) -> None:
    train(stores)
    write_things(stores.lake, shift=shift)
    later = NOW + timedelta(days=8)
    score(stores, date(2013, 2, 4), date(2013, 2, 17), now=later)
    features = judge(stores, "feature_drift", later, "run")
    predictions = judge(stores, "prediction_drift", later, "run")
    assert (features.passed, predictions.passed) == (passed, passed)
    assert features.picture.startswith(b"\x89PNG")
    assert features.numbers["worst_feature"] is not None


def test_an_ignored_feature_does_not_drift(stores) -> None:
    spec = stores.spec.model_copy(update={"drift": stores.spec.drift.model_copy(update={"ignore": ("x",)})})
    train(stores)
    write_things(stores.lake, shift=2.0)
    assert judge(replace(stores, spec=spec), "feature_drift", NOW + timedelta(days=8), "run").passed


def test_a_verdict_is_recorded_once_however_often_it_is_given(stores) -> None:
    train(stores)
    for _ in range(2):
        judge(stores, "model_age", NOW, "run")
    (row,) = stores.lake.rows(CHECK_RESULTS)
    assert (row["line"], row["check"], row["champion_version"], row["passed"]) == ("delay", "model_age", 1, True)


def test_what_drifts_is_kept_by_segment_and_feature(stores) -> None:
    train(stores)
    write_things(stores.lake, shift=2.0)
    judged = judge(stores, "feature_drift", NOW + timedelta(days=8), "run")
    rows = {row["feature"]: row for row in stores.lake.rows(DRIFT_RESULTS)}
    assert sorted(rows) == ["kind", "x"]
    assert (rows["x"]["exceeded"], rows["kind"]["exceeded"], rows["x"]["segment_drifted"]) == (True, False, True)
    assert judged.failing_segments == ("all",)
    assert judged.numbers["worst_feature"] == "x"


def test_looking_again_on_the_same_day_is_no_new_test(stores) -> None:
    train(stores)
    first = judge(stores, "feature_drift", NOW + timedelta(days=8, hours=1), "run")
    again = judge(stores, "feature_drift", NOW + timedelta(days=8, hours=23), "run")
    assert again.summary == first.summary
    assert len(stores.lake.rows(DRIFT_RESULTS)) == 2


def test_hysteresis_waits_for_a_second_day(stores) -> None:
    drift = stores.spec.drift.model_copy(update={"hysteresis": HysteresisSpec(hits=2, of=3)})
    patient = replace(stores, spec=stores.spec.model_copy(update={"drift": drift}))
    train(stores)
    write_things(stores.lake, shift=2.0)
    assert judge(patient, "feature_drift", NOW + timedelta(days=8), "run").passed
    assert not judge(patient, "feature_drift", NOW + timedelta(days=9), "run").passed


@pytest.mark.parametrize(("change", "failing"), [({}, []), ({"flip": True}, ["quality"]), ({"more": True}, ["label_drift"])])
def test_labels_that_the_features_no_longer_tell_are_a_decay_of_the_model(stores, change, failing) -> None:
    train(stores)
    score(stores, date(2013, 2, 3), date(2013, 2, 23), now=NOW + timedelta(days=20))
    change_labels(stores.lake, **change)
    later = NOW + timedelta(days=14)
    verdicts = {kind: judge(stores, kind, later, "run") for kind in ("quality", "label_drift", "estimated_quality")}
    assert verdicts["quality"].numbers["judged"]
    assert set(failing) <= {kind for kind, verdict in verdicts.items() if not verdict.passed}
    assert verdicts["estimated_quality"].passed
    if not change:
        assert all(verdict.passed for verdict in verdicts.values())


def test_the_window_and_the_limit_of_quality_are_the_lines(stores) -> None:
    train(stores)
    score(stores, date(2013, 2, 3), date(2013, 2, 23), now=NOW + timedelta(days=20))
    change_labels(stores.lake, flip=True)
    later = NOW + timedelta(days=14)

    def passed(**keys):
        spec = stores.spec.model_copy(update={"quality": QualitySpec(**keys)})
        return judge(replace(stores, spec=spec), "quality", later, "run").passed

    assert not passed()
    assert passed(max_loss=5.0)
    assert passed(min_rows=100_000)
    assert passed(window="1d")  # a day has too few rows for a verdict


def test_a_loss_that_the_scores_foresee_has_a_limit_of_its_own(stores) -> None:
    train(stores)
    score(stores, date(2013, 2, 3), date(2013, 2, 23), now=NOW + timedelta(days=20))
    found = judge(stores, "estimated_quality", NOW + timedelta(days=14), "run").numbers

    def limit(check, **keys):
        spec = stores.spec.model_copy(update={"quality": QualitySpec(**keys)})
        return (
            f"limit {spec.quality.limit_of(check):.0%}"
            in judge(replace(stores, spec=spec), check, NOW + timedelta(days=14), "run").summary
        )

    assert found["judged"]
    assert limit("estimated_quality", max_expected_loss=0.33, max_loss=0.11)
    assert limit("quality", max_expected_loss=0.33, max_loss=0.11)


def test_training_on_the_features_that_were_scored_is_no_skew(stores) -> None:
    train(stores)
    score(stores, date(2013, 2, 10), date(2013, 2, 16), now=NOW + timedelta(days=8))
    assert not judge(stores, "skew", NOW, "run").numbers["judged"]  # no label of these days is known yet
    judged = judge(stores, "skew", NOW + timedelta(days=8), "run")
    assert judged.passed
    assert judged.numbers["compared_rows"] > 100


def test_features_that_changed_after_they_were_scored_are_skew_and_named(stores) -> None:
    train(stores)
    score(stores, date(2013, 2, 10), date(2013, 2, 16), now=NOW + timedelta(days=8))
    write_things(stores.lake, shift=0.001)
    judged = judge(stores, "skew", NOW + timedelta(days=8), "run")
    assert not judged.passed
    assert list(judged.numbers["differing_rows"]) == ["x"]
    differing = judged.numbers["differing_rows"]["x"]
    # The sampled rows whose value changed are of the days after the 33rd, and named by it.
    assert judged.numbers["differing_days"] == {f"2013-02-{day}": 24 for day in range(10, 17)}
    assert f"{differing} have other features" in judged.summary
    assert "x in 168; all of 7 days between 2013-02-10 and 2013-02-16" in judged.summary
    tolerant = stores.spec.model_copy(update={"skew": SkewSpec(max_share=0.999)})
    few = stores.spec.model_copy(update={"skew": SkewSpec(sample=3)})
    judged_by = {name: replace(stores, spec=spec) for name, spec in (("tolerant", tolerant), ("few", few))}
    assert judge(judged_by["tolerant"], "skew", NOW + timedelta(days=8), "run").passed == (
        max(judged.numbers["differing_rows"].values()) <= 0.999 * judged.numbers["compared_rows"]
    )
    score(judged_by["few"], date(2013, 2, 17), date(2013, 2, 17), now=NOW + timedelta(days=8))
    kept = stores.lake.query("select count(*) as n from t where as_of_utc >= ?", [NOW + timedelta(days=7)],
                             t=stores.lake.pin("ops/feature_hashes"))  # fmt: skip
    assert kept["n"][0].as_py() == 3


def test_a_mended_path_is_no_skew_once_its_days_fill_the_window(stores) -> None:
    train(stores)
    score(stores, date(2013, 2, 3), date(2013, 2, 5), now=NOW + timedelta(days=8))
    write_things(stores.lake, shift=0.001)  # from here on features are made otherwise
    passed = []
    for last in (date(2013, 2, 12), date(2013, 2, 18), date(2013, 2, 19)):
        score(stores, date(2013, 2, 6), last, now=NOW + timedelta(days=19))
        judged = judge(stores, "skew", NOW + timedelta(days=19), "run")
        passed.append((judged.passed, list(judged.numbers["differing_days"])))
    assert passed == [(False, ["2013-02-03", "2013-02-04", "2013-02-05"]), (False, ["2013-02-05"]), (True, [])]
    assert judge(stores, "skew", NOW + timedelta(days=200), "run").numbers["compared_from"] == "2013-02-06"


def test_what_the_window_of_skew_has_left_behind_is_kept_no_longer(stores) -> None:
    def read_days(line: str = "delay") -> list[str]:
        sql = "select distinct strftime(as_of_utc, '%m-%d') as day from t where line = ? order by day"
        return stores.lake.query(sql, [line], t=stores.lake.pin("ops/feature_hashes"))["day"].to_pylist()

    train(stores)
    narrow = replace(stores, spec=stores.spec.model_copy(update={"skew": SkewSpec(window="3d")}))
    score(narrow, date(2013, 2, 10), date(2013, 2, 16), now=NOW + timedelta(days=8))
    scored = read_days()
    kept = stores.lake.query("select * replace ('others' as line) from t", t=stores.lake.pin("ops/feature_hashes"))
    stores.lake.append(FEATURE_HASHES, kept)
    judge(narrow, "skew", NOW, "run")  # no label of these days is known yet
    assert read_days() == scored
    first = judge(narrow, "skew", NOW + timedelta(days=8), "run")
    version = stores.lake.pin("ops/feature_hashes").version
    assert read_days() == [day for day in scored if day >= first.numbers["compared_from"][5:]] != scored
    assert read_days("others") == scored
    again = judge(narrow, "skew", NOW + timedelta(days=8), "run")
    assert (again.numbers, stores.lake.pin("ops/feature_hashes").version) == (first.numbers, version)


def test_a_row_that_is_scored_again_and_in_the_sample_no_longer_is_not_held_against_its_first_scoring(stores) -> None:
    train(stores)
    score(stores, date(2013, 2, 10), date(2013, 2, 16), now=NOW + timedelta(days=8))
    write_things(stores.lake, shift=0.001)
    fewer = replace(stores, spec=stores.spec.model_copy(update={"skew": SkewSpec(sample=5)}))
    score(fewer, date(2013, 2, 10), date(2013, 2, 16), now=NOW + timedelta(days=8))
    judged = judge(fewer, "skew", NOW + timedelta(days=8), "run")
    assert (judged.passed, judged.numbers["compared_rows"]) == (True, 7 * 5)


def test_only_a_failed_verdict_names_segments(stores) -> None:
    assert judge(stores, "model_age", NOW, "run").failing_segments == ("all",)
    train(stores)
    score(stores, date(2013, 2, 3), date(2013, 2, 23), now=NOW + timedelta(days=20))
    later = NOW + timedelta(days=14)
    for kind in check_keys(stores.spec):
        judgement = judge(stores, kind, later, "run")
        assert judgement.failing_segments == (() if judgement.passed else ("all",)), kind
    change_labels(stores.lake, flip=True)
    assert judge(stores, "quality", later, "run").failing_segments == ("all",)
