"""The upkeep of the lake never drops what a champion, or the one it could be rolled back to, learnt from."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from factory_assets.contracts.maintenance import MaintenanceSpec
from factory_assets.contracts.model_versions import ModelVersion
from factory_assets.contracts.paybacks import Payback, Replacement
from factory_assets.contracts.segments import ALL
from factory_assets.core.retraining.paybacks import leave_undecided
from factory_assets.lines.upkeep import care_for_lake, find_needed_versions
from factory_assets.storage.dbt.time_travel import Pin
from factory_assets.storage.tables.publishes import Publishes
from tests.aged_tables import age_table
from tests.lines.conftest import NOW, SPEC, write_things
from tests.recorded import build_version, decide

SHORT = MaintenanceSpec(retention="1h", compact_from=2)


def train_on_new_things(stores: Any, cycle: int, segment: str = ALL) -> ModelVersion:
    """One more version of each input, and a promoted model that is recorded as learnt from them."""
    write_things(stores.lake, shift=cycle * 0.5)
    now = NOW + timedelta(days=cycle)
    training_set = stores.training_sets.build(now)
    version = replace(
        build_version(SPEC.name, cycle + 1),
        segment=segment,
        training_set_version=training_set.table.version,
        feature_set_version=training_set.feature_set.version,
        label_version=training_set.labels.version,
    )
    stores.versions.record([version])
    decide(stores.versions, version, promote=True, now=now)
    return version


@pytest.fixture
def three_cycles(stores: Any) -> tuple[Any, list[ModelVersion]]:
    """A line of three promoted versions, and inputs that went on after the last."""
    versions = [train_on_new_things(stores, cycle) for cycle in range(3)]
    told = Replacement(ALL, 2, ALL, 1, NOW)
    stores.paybacks.record(SPEC.name, [Payback(told, NOW, leave_undecided("roc_auc", 0, "Undecided."), NOW)])
    write_things(stores.lake, shift=9)
    stores.training_sets.build(NOW + timedelta(days=9))
    for table in stores.lake.files.table_names():
        age_table(Path(stores.lake.uri(table)), 1)
    return stores, versions


def rows(stores: Any, table: str, version: int | None) -> list[Any]:
    return stores.lake.query("select * from t order by all", t=stores.lake.pin(table, version)).to_pylist()


def test_the_inputs_of_the_champion_and_of_the_one_before_outlive_the_retention(
    three_cycles: tuple[Any, list[ModelVersion]],
) -> None:
    stores, (first, second, third) = three_cycles
    inputs = [
        (table, getattr(model, version))
        for model in (second, third)
        for table, version in (
            ("training_sets/delay", "training_set_version"),
            ("features/feat_thing", "feature_set_version"),
            ("marts/fct_thing", "label_version"),
        )
    ]
    newest = [(table, None) for table in stores.lake.files.table_names()]
    before = {place: rows(stores, *place) for place in [*inputs, *newest]}
    cared = {care.table: care for care in care_for_lake(stores.lake, SHORT, [SPEC])}
    assert {care.problem for care in cared.values()} == {None}
    assert {place: rows(stores, *place) for place in before} == before
    assert cared["features/feat_thing"].kept_versions == (second.feature_set_version, third.feature_set_version)
    # The first model serves no more, nor would a rollback go to it.
    assert cared["features/feat_thing"].files_freed > 0
    with pytest.raises(Exception, match="No files found"):
        rows(stores, "features/feat_thing", first.feature_set_version)


def test_a_line_that_is_no_longer_declared_keeps_what_its_champion_was_made_from(
    three_cycles: tuple[Any, list[ModelVersion]],
) -> None:
    stores, (_, second, third) = three_cycles
    expected = find_needed_versions(stores.lake, [SPEC])
    other = SPEC.model_copy(update={"feature_set": "feat_other"})
    assert find_needed_versions(stores.lake, []) == find_needed_versions(stores.lake, [other]) == expected
    assert expected["training_sets/delay"] == {second.training_set_version, third.training_set_version}


def test_each_segment_has_a_champion_of_its_own(stores: Any) -> None:
    train_on_new_things(stores, 0, "UA")
    for cycle in range(1, 4):
        train_on_new_things(stores, cycle, "AA")
    assert find_needed_versions(stores.lake, [SPEC])["training_sets/delay"] == {0, 2, 3}


def test_a_challenger_that_was_not_promoted_needs_nothing(three_cycles: tuple[Any, list[ModelVersion]]) -> None:
    stores, (*_, third) = three_cycles
    expected = find_needed_versions(stores.lake, [SPEC])
    kept = replace(third, version=4, training_set_version=3)
    stores.versions.record([kept])
    decide(stores.versions, kept, promote=False, now=NOW)
    assert find_needed_versions(stores.lake, [SPEC]) == expected


def test_without_a_champion_nothing_is_needed(stores: Any) -> None:
    assert find_needed_versions(stores.lake, [SPEC]) == {}


def test_excluded_tables_are_left_alone(three_cycles: tuple[Any, list[ModelVersion]]) -> None:
    stores, _ = three_cycles
    cared = care_for_lake(stores.lake, SHORT.model_copy(update={"exclude": ("features/*",)}), [SPEC])
    assert {care.table.split("/")[0] for care in cared} == {"marts", "ops", "training_sets"}
    only = care_for_lake(stores.lake, SHORT.model_copy(update={"tables": ("ops/pro*",)}), [SPEC])
    assert [care.table for care in only] == ["ops/promotions"]


def test_inputs_that_cannot_be_named_stop_the_round_before_anything_is_deleted(
    three_cycles: tuple[Any, list[ModelVersion]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stores, _ = three_cycles
    monkeypatch.setattr("factory_assets.lines.upkeep.read_input_names", lambda *_: None)
    assert find_needed_versions(stores.lake, [SPEC])
    with pytest.raises(LookupError, match="'delay' has a champion and no declaration"):
        care_for_lake(stores.lake, SHORT, [])


def test_what_the_dbt_project_pins_outlives_the_retention(three_cycles: tuple[Any, list[ModelVersion]]) -> None:
    stores, (first, *_) = three_cycles
    pinned = {"features/feat_thing": Pin(version=first.feature_set_version)}
    before = rows(stores, "features/feat_thing", first.feature_set_version)
    cared = {care.table: care for care in care_for_lake(stores.lake, SHORT, [SPEC], pinned)}
    assert {care.problem for care in cared.values()} == {None}
    assert first.feature_set_version in cared["features/feat_thing"].kept_versions
    assert rows(stores, "features/feat_thing", first.feature_set_version) == before


@pytest.mark.parametrize(
    ("pin", "said"),
    [(Pin(version=99), "has no version 99"), (Pin(as_of=datetime(1999, 1, 1, tzinfo=UTC)), "did not exist at 1999-01-01")],
)
def test_a_table_whose_pin_names_nothing_is_left_alone_and_said_to_be(
    pin: Pin, said: str, three_cycles: tuple[Any, list[ModelVersion]]
) -> None:
    stores, _ = three_cycles
    files = sorted(Path(stores.lake.uri("features/feat_thing")).rglob("*"))
    cared = {care.table: care for care in care_for_lake(stores.lake, SHORT, [SPEC], {"features/feat_thing": pin})}
    assert said in str(cared.pop("features/feat_thing").problem)
    assert {care.problem for care in cared.values()} == {None}
    assert any(care.files_freed for care in cared.values())
    assert sorted(Path(stores.lake.uri("features/feat_thing")).rglob("*")) == files


def test_a_table_whose_publish_was_interrupted_is_left_to_a_later_round(
    three_cycles: tuple[Any, list[ModelVersion]],
) -> None:
    """No log names the files that are on their way, and a round in full would take them for a killed writer's."""
    stores, _ = three_cycles
    place = Path(stores.lake.uri("features/feat_thing"))
    staged = place / "staged" / "abc" / "part-0.parquet"
    staged.parent.mkdir(parents=True)
    staged.write_bytes(b"rows to come")
    os.utime(staged, (0, 0))
    journal = Publishes.read(stores.lake)
    begun = replace(journal.record("features/feat_thing"), pending_run_id="r", pending_stage="abc", pending_version=9)
    journal = journal.write([begun])
    files = sorted(place.rglob("*"))
    cared = [care.table for care in care_for_lake(stores.lake, SHORT, [SPEC])]
    assert "features/feat_thing" not in cared
    assert "marts/fct_thing" in cared
    assert sorted(place.rglob("*")) == files
    journal.write([begun.without_pending()])
    cared = [care.table for care in care_for_lake(stores.lake, SHORT, [SPEC])]
    assert "features/feat_thing" in cared
    assert not staged.exists()
