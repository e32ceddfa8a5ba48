"""The joint distribution over real tables: kept at training, judged by day, a part of the promise like every other check."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from factory_assets.components.model_line.checks import check_keys
from factory_assets.contracts.drift_policy import DriftSpec
from factory_assets.contracts.retrain_policy import RetrainSpec
from factory_assets.lines.judging import judge
from factory_assets.lines.judging.drift import level_of_a_day
from factory_assets.lines.training import train_line
from factory_assets.storage.delta.lake import TableSpec
from factory_assets.storage.tables.drift_results import DRIFT_RESULTS
from factory_assets.storage.tables.drift_samples import DRIFT_SAMPLES
from tests.lines.conftest import NOW, START
from tests.lines.fleet_fixture import fleet_spec

LOOKED = NOW + timedelta(days=8)


def with_joint(stores: Any, **joint: Any) -> Any:
    # Fewer than 50 rows of a window say nothing, and a thing comes once an hour: seven days have 168.
    drift = DriftSpec.model_validate({"window": "7d", "min_rows": 100, "joint": joint})
    return replace(stores, spec=stores.spec.model_copy(update={"drift": drift}))


def train(stores: Any, now: Any = NOW) -> Any:
    stores.training_sets.build(now)
    return train_line(stores, now, "run")


def tie(lake: Any) -> None:
    """From day 33 on `kind` follows the size of `x`; its shares and the values of `x` stay as they were."""
    table = lake.query("select * from t order by id", t=lake.pin("features/feat_thing"))
    x, kinds = table["x"].to_numpy(), np.array(table["kind"].to_pylist())
    tied = np.digitize(x, np.quantile(x, [1 / 3, 2 / 3])).astype(str)
    kinds = np.where(np.arange(len(x)) > 24 * 33, tied, kinds)
    changed = table.set_column(table.column_names.index("kind"), "kind", pa.array(kinds.tolist()))
    lake.replace(TableSpec("features/feat_thing", changed.schema, ("id",)), changed)


def test_what_no_feature_shows_fails_the_joint_check_alone(stores: Any) -> None:
    stores = with_joint(stores)
    train(stores)
    assert judge(stores, "joint_drift", LOOKED, "run").passed
    tie(stores.lake)
    found = judge(stores, "joint_drift", LOOKED, "run")
    assert not found.passed
    assert found.failing_segments == ("all",)
    assert found.numbers["auc"] > 0.7
    assert found.numbers["p_value"] < level_of_a_day(stores.spec)
    assert set(found.numbers["leading_features"]) == {"x", "kind"}
    assert found.picture.startswith(b"\x89PNG")
    assert judge(stores, "feature_drift", LOOKED, "run").passed
    (row,) = [row for row in stores.lake.rows(DRIFT_RESULTS) if row["check"] == "joint_drift"]
    assert (row["segment"], row["segment_drifted"], row["measure"], row["champion_version"]) == ("all", True, "auc", 1)


@pytest.mark.parametrize("change", [{"size": 0.99}, {"marginals": "kept"}])
def test_the_size_is_the_lines(stores: Any, change: dict[str, Any]) -> None:
    stores = with_joint(stores, **change)
    train(stores)
    tie(stores.lake)
    assert judge(stores, "joint_drift", LOOKED, "run").passed == ("size" in change)


def test_without_a_model_or_its_rows_nothing_is_judged_and_the_next_training_keeps_some(stores: Any) -> None:
    later = with_joint(stores)
    assert judge(later, "joint_drift", NOW, "run").summary == "Not judged: no model serves yet."
    train(stores)
    assert stores.lake.find(DRIFT_SAMPLES.name) is None
    judged = judge(later, "joint_drift", NOW, "run")
    assert judged.passed
    assert judged.summary == "Not judged: no rows of v1's training were kept; the next training keeps some."


def test_so_many_rows_are_kept_as_declared_and_of_old_versions_none(stores: Any) -> None:
    stores = with_joint(stores, rows=500)
    for day in range(3):
        train(stores, NOW + timedelta(days=day))
    kept = stores.lake.rows(DRIFT_SAMPLES)
    versions = {row["version"] for row in kept}
    serving = stores.versions.champion("delay").version
    assert versions <= {serving, 3}
    assert 3 in versions
    assert serving in versions
    assert sum(row["version"] == 3 for row in kept) == 500
    sample = stores.drift_samples.read("delay", serving, ("x",), ("kind",))
    assert sample is not None
    assert set(sample.frame["kind"]) == {"0", "1", "2"}
    assert 0.5 < sample.share < 0.8
    assert sample.days.min() == (START - START.fromtimestamp(0, START.tzinfo)).days


def test_an_ignored_feature_takes_no_part(stores: Any) -> None:
    stores = with_joint(stores)
    train(stores)
    tie(stores.lake)
    drift = stores.spec.drift.model_copy(update={"ignore": ("kind",)})
    assert judge(replace(stores, spec=stores.spec.model_copy(update={"drift": drift})), "joint_drift", LOOKED, "run").passed


def test_the_check_is_there_when_it_is_declared_and_shares_the_promise_when_it_starts_retrains(stores: Any) -> None:
    declared = with_joint(stores).spec
    assert "joint_drift" not in check_keys(stores.spec)
    assert "joint_drift" in check_keys(declared)
    triggers = RetrainSpec(triggers=("feature_drift", "joint_drift"))
    assert level_of_a_day(declared.model_copy(update={"retrain": triggers})) == pytest.approx(1 / 60)
    with pytest.raises(ValidationError, match=r"names joint_drift, which needs the key drift\.joint"):
        fleet_spec(retrain={"triggers": ["joint_drift"]})
