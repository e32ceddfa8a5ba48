"""Promotions on real stores, judged on what came after them; the world turns round in between."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from factory_assets.contracts.model_line import ValidationSpec
from factory_assets.contracts.retrain_policy import PaybackSpec
from factory_assets.contracts.retraining import BY_HAND, Cause, FailedCheck, LedgerEntry
from factory_assets.core.models.artefacts import UntrustedArtefactError
from factory_assets.lines.accounts import read_ledger_standing
from factory_assets.lines.judging import judge
from factory_assets.lines.paybacks import PaybackOutcome, find_unjudged, judge_paybacks
from factory_assets.lines.retrain_situation import add_effects, read_payments, read_rows_a_day
from factory_assets.lines.scoring import score_days
from factory_assets.lines.training import train_line
from factory_assets.lines.upkeep import find_needed_versions
from factory_assets.storage.delta.lake import TableSpec
from factory_assets.storage.tables.paybacks import PAYBACKS
from tests.lines.conftest import SPEC, START, write_things
from tests.lines.fleet_fixture import fleet_spec, write_fleet
from tests.recorded import build_version, bundle, decide

FIRST, SECOND, END = (START + timedelta(days=day) for day in (20, 44, 60))


def turn_round(lake: Any, first_day: int, last_day: int) -> None:
    """What made a thing late makes it early on these days."""
    labels = lake.query("select * from t", t=lake.pin("marts/fct_thing"))
    turned = lake.query(
        "select * replace (case when known_at >= ? and known_at < ? then not late else late end as late) from t",
        [START + timedelta(days=first_day), START + timedelta(days=last_day)],
        t=labels,
    )
    lake.replace(TableSpec("marts/fct_thing", turned.schema, ("id",)), turned)


def with_policy(stores: Any, **payback: Any) -> Any:
    retrain = SPEC.retrain.model_copy(update={"payback": PaybackSpec(**payback)})
    validation = ValidationSpec(holdout="7d", min_rows=50, window="14d")
    return replace(stores, spec=SPEC.model_copy(update={"retrain": retrain, "validation": validation}))


def train(stores: Any, now: datetime) -> Any:
    stores.training_sets.build(now)
    return train_line(stores, now, "run")


def promote_twice(stores: Any, turned: tuple[int, int], **payback: Any) -> Any:
    """A model of the first weeks, and one that replaces it after the world has turned round."""
    turn_round(stores.lake, *turned)
    ready = with_policy(stores, **payback)
    assert train(ready, FIRST).decision.promote
    assert train(ready, SECOND).decision.promote
    return ready


def judged(stores: Any) -> list[dict[str, Any]]:
    return stores.paybacks.of_line("delay")


def test_a_promotion_that_met_the_world_as_it_stayed_paid(stores: Any) -> None:
    ready = promote_twice(stores, (22, 61))
    outcome = judge_paybacks(ready, END)
    (row,) = judged(ready)
    assert (row["segment"], row["version"], row["replaced_version"], row["verdict"]) == ("all", 2, 1, "paid")
    assert row["rows"] == 16 * 24 - 1  # the last one's label is known two hours later
    assert row["value"] > 0.8
    assert row["replaced_value"] < 0.2
    assert row["gain"] == pytest.approx(row["value"] - row["replaced_value"])
    assert 0 < row["gain_low"] < row["gain"] < row["gain_high"]
    assert row["promoted_at_utc"] == SECOND
    assert row["reason"].startswith("Paid: roc_auc ")
    assert len(outcome.judged) == 1
    assert not outcome.waiting


def test_a_promotion_that_followed_a_passing_episode_did_not_pay(stores: Any) -> None:
    ready = promote_twice(stores, (22, 44))
    judge_paybacks(ready, END)
    (row,) = judged(ready)
    assert (row["verdict"], row["gain_high"] < 0) == ("did_not_pay", True)


def test_a_promotion_with_little_behind_it_is_undecided_when_patience_is_over(stores: Any) -> None:
    ready = promote_twice(stores, (22, 61), window="1d", patience="2d")
    judge_paybacks(ready, SECOND + timedelta(days=2))
    (row,) = judged(ready)
    assert (row["verdict"], row["gain_low"], row["days"]) == ("undecided", None, 2)
    assert "too few to tell" in row["reason"]


def test_it_is_judged_once_and_not_before_time_and_labels_are_there(stores: Any) -> None:
    ready = promote_twice(stores, (22, 61), min_rows=370)
    assert len(judge_paybacks(ready, SECOND + timedelta(days=13)).waiting) == 1
    # 14 days have 336 rows: time alone is not enough.
    assert len(judge_paybacks(ready, SECOND + timedelta(days=14)).waiting) == 1
    assert judged(ready) == []
    assert len(judge_paybacks(ready, END).judged) == 1
    version = ready.lake.pin(PAYBACKS.name).version
    again = judge_paybacks(ready, END + timedelta(days=3))
    assert (again.judged, again.waiting, ready.lake.pin(PAYBACKS.name).version) == ((), (), version)


def test_a_line_of_one_promotion_has_nothing_to_be_compared_with(stores: Any) -> None:
    train(stores, FIRST)
    assert judge_paybacks(stores, END) == PaybackOutcome((), ())
    assert stores.lake.find(PAYBACKS.name) is None


def test_a_replaced_model_whose_file_is_gone_leaves_it_undecided_and_says_which(stores: Any) -> None:
    ready = promote_twice(stores, (22, 61))
    old = ready.versions.get("delay", 1)
    (ready.artefacts.root / old.artefact_path).unlink()
    judge_paybacks(ready, END)
    (row,) = judged(ready)
    assert row["verdict"] == "undecided"
    assert old.artefact_path in row["reason"]


def test_a_replaced_model_whose_bytes_were_changed_is_not_loaded(stores: Any) -> None:
    ready = promote_twice(stores, (22, 61))
    old = ready.versions.get("delay", 1)
    (ready.artefacts.root / old.artefact_path).write_bytes(bundle({old.artefact_sha256: b"evil"}))
    with pytest.raises(UntrustedArtefactError):
        judge_paybacks(ready, END)
    assert judged(ready) == []


def test_a_feature_that_is_gone_leaves_it_undecided_and_is_named(stores: Any) -> None:
    ready = promote_twice(stores, (22, 61))
    table = ready.lake.query("select * exclude (kind) from t", t=ready.lake.pin("features/feat_thing"))
    ready.lake.replace(TableSpec("features/feat_thing", table.schema, ("id",)), table)
    judge_paybacks(ready, END)
    (row,) = judged(ready)
    assert (row["verdict"], "kind" in row["reason"]) == ("undecided", True)


def test_the_replaced_model_is_kept_by_the_upkeep_until_it_is_told_whether_its_replacement_paid(stores: Any) -> None:
    ready = promote_twice(stores, (22, 44))
    later = START + timedelta(days=55)
    for number in (3, 4):  # two more promotions: the first model is three behind the champion
        inputs = dict.fromkeys(("training_set_version", "feature_set_version", "label_version"), 1)
        version = replace(build_version("delay", number), **inputs)
        ready.versions.record([version])
        decide(ready.versions, version, promote=True, now=later)
    first = ready.versions.get("delay", 1)
    needed = find_needed_versions(ready.lake, [ready.spec])
    assert first.training_set_version in needed["training_sets/delay"]
    judge_paybacks(ready, END)
    assert [row["version"] for row in judged(ready)] == [2]
    needed = find_needed_versions(ready.lake, [ready.spec])
    assert first.training_set_version not in needed["training_sets/delay"]
    assert ready.versions.get("delay", 2).training_set_version in needed["training_sets/delay"]


def test_the_accounts_say_how_promotions_paid(stores: Any) -> None:
    ready = promote_twice(stores, (22, 61))
    judge_paybacks(ready, END)
    entry = LedgerEntry(
        Cause("delay", "all", "model_age", 1, SECOND), "promoted", SECOND, SECOND, "better", outcome_version=2
    )
    ready.ledger.write([entry], 0)
    (told,) = read_ledger_standing(ready.lake).paybacks
    assert {name: told[name] for name in ("line", "paid", "did_not_pay", "undecided")} == {
        "line": "delay",
        "paid": 1,
        "did_not_pay": 0,
        "undecided": 0,
    }
    assert told["newest"].startswith("Paid: ")


# --- A fleet ---


@pytest.fixture
def fleet(stores: Any) -> Any:
    """Two cycles: the world turns round for one carrier before the second."""
    write_fleet(stores.lake)
    spec = fleet_spec(validation={"holdout": "10d", "min_rows": 50, "window": "14d"}, retrain={"payback": {"min_rows": 100}})
    ready = replace(stores, spec=spec)
    labels = ready.lake.query("select * from t", t=ready.lake.pin("marts/fct_thing"))
    turned = ready.lake.query(
        "select * replace (case when id like 'AA~%' and known_at >= ? then 1 - late else late end as late) from t",
        [START + timedelta(days=24)],
        t=labels,
    )
    ready.lake.replace(TableSpec("marts/fct_thing", turned.schema, ("id",)), turned)
    train(ready, START + timedelta(days=24))
    train(ready, SECOND)
    return ready


def test_all_segments_of_a_fleet_are_judged_in_one_pass_and_one_commit(fleet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    unjudged = find_unjudged(fleet.lake, fleet.spec)
    assert "AA~r1" in {found.segment for found in unjudged}
    reads = []
    read = type(fleet.labelled_rows).read
    monkeypatch.setattr(type(fleet.labelled_rows), "read", lambda self, *given: reads.append(given) or read(self, *given))
    monkeypatch.setattr(type(fleet.registry), "client", lambda _: pytest.fail("MLflow is not asked"))
    outcome = judge_paybacks(fleet, END)
    assert len(outcome.judged) == len(unjudged) > 1
    assert len(reads) == 2  # once to count, once to score
    assert fleet.lake.pin(PAYBACKS.name).version == 0
    verdicts = {row["segment"]: row for row in judged(fleet)}
    assert {verdicts[segment]["verdict"] for segment in ("AA~r1", "AA~r2")} == {"paid"}
    assert verdicts["AA~r1"]["rows"] == 16 * 16  # its own rows, and no others
    assert verdicts["AA~r1"]["replaced_segment"] == "AA~r1"


def test_judged_again_after_the_table_was_lost_a_fleet_comes_to_the_same(fleet: Any) -> None:
    judge_paybacks(fleet, END)
    first = judged(fleet)
    shutil.rmtree(fleet.lake.uri(PAYBACKS.name))
    judge_paybacks(fleet, END)
    assert judged(fleet) == first


# --- What decisions are fed with ---


def test_payments_come_from_judged_promotions_and_from_champions_that_were_kept(stores: Any) -> None:
    ready = promote_twice(stores, (22, 44))
    judge_paybacks(ready, END)
    assert read_payments(ready)["all"].cooldown_factor == 1
    later = END + timedelta(days=1)
    kept = [
        LedgerEntry(Cause("delay", "all", trigger, 2, END), "kept_champion", later, later, "no better")
        for trigger in ("feature_drift", "model_age")  # one run answered both
    ]
    by_hand = LedgerEntry(Cause("delay", "all", BY_HAND, 2, END), "kept_champion", END, END, "no better")
    assert ready.ledger.write([*kept, by_hand], 0)
    record = read_payments(ready)["all"]
    assert (record.paid, record.judged, record.cooldown_factor) == (0, 2, 2)


def test_traffic_is_what_each_serving_model_has_scored(fleet: Any) -> None:
    days = [(START + timedelta(days=day)).date() for day in range(50, 60)]
    score_days(fleet, days, "UTC", END, "run")
    traffic = read_rows_a_day(fleet, END)
    serving = set(fleet.versions.standing("delay").serving)
    assert set(traffic) <= serving
    assert sum(traffic.values()) == pytest.approx(4 * 16 + 1, abs=1)  # four routes, and an odd one a day
    assert traffic["AA~r1"] == 16
    assert read_rows_a_day(fleet, END + timedelta(days=30)) == {}


def failure(check: str, segments: tuple[str, ...] = ("all",)) -> FailedCheck:
    return FailedCheck(check, 1, "run", 2, END, "failed", segments, datetime(2026, 1, 1, tzinfo=UTC))


def test_effects_are_how_many_times_its_limit_a_failure_is(stores: Any) -> None:
    train(stores, START + timedelta(days=40))
    write_things(stores.lake, shift=2.0)
    later = START + timedelta(days=48)
    drift = judge(stores, "feature_drift", later, "run")
    assert not drift.passed
    judge(stores, "model_age", later + timedelta(days=37), "run")
    by_check = {
        check.check: check.effects for check in add_effects(stores, [failure("feature_drift"), failure("model_age")])
    }
    assert by_check["feature_drift"]["all"] == pytest.approx(drift.numbers["worst_effect"] / drift.numbers["threshold"])
    assert by_check["feature_drift"]["all"] > 1
    assert by_check["model_age"]["all"] == pytest.approx(1.5, abs=0.02)
    own = replace(failure("feature_drift"), effects={"all": 7.0})
    assert add_effects(stores, [own]) == [own]
    assert add_effects(stores, [replace(failure("new_rows"), evaluation_id=0)])[0].effects == {}
