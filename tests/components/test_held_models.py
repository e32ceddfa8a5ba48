"""Models that a failed test holds, as Dagster shows them: failed, never materialized, and with a way to look at them."""

from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from factory_assets.components.naming import table_key
from tests.components.conftest import Sandbox
from tests.dbt.conftest import make_sandbox

MODELS = ("suspect", "skipped", "parent", "child", "other", "free")


def _events(*keys: int) -> pa.Table:
    return pa.table({"k": pa.array(keys, pa.int64())})


def _materialized(result: dg.ExecuteInProcessResult) -> set[str]:
    return {event.asset_key.to_user_string() for event in result.get_asset_materialization_events()}


@pytest.fixture
def materialize(sandbox: Sandbox) -> Any:
    """A project of six models, whose singular test fails by its two parents being alike, and a way to run it all."""
    small = make_sandbox(sandbox.root / "small")
    small.lake = Path(sandbox.settings.lake)
    source = "select * from {{ source('bronze', 'events') }}"
    small.model("suspect", source, {"columns": [{"name": "k", "data_tests": ["unique"]}]})
    small.model("skipped", "select * from {{ ref('suspect') }}")
    small.model("parent", source)
    small.model("child", "select k from {{ ref('parent') }}")
    small.model("other", f"{source} where (select count(*) from {{{{ ref('child') }}}}) > 0")
    small.model("free", source)
    (small.project / "tests").mkdir()
    test = "select k from {{ ref('parent') }} join {{ ref('other') }} using (k) where k > 100"
    (small.project / "tests" / "no_overlap.sql").write_text(test)
    small.write_source("events", _events(1))
    sandbox.declare("dbt", "DbtProject", {"path": "small/project"})
    definitions = sandbox.build()
    instance = dg.DagsterInstance.ephemeral()

    def run() -> dg.ExecuteInProcessResult:
        job = definitions.resolve_implicit_global_asset_job_def()
        keys = [table_key("marts", name) for name in MODELS]
        return job.execute_in_process(instance=instance, asset_selection=keys, raise_on_error=False)

    return small, run, instance


def test_a_held_model_is_failed_and_never_materialized(materialize: Any, capsys: pytest.CaptureFixture[str]) -> None:
    small, run, instance = materialize
    assert run().success
    small.write_source("events", _events(200, 200))
    result = run()
    assert not result.success
    assert _materialized(result) == {"marts/free"}
    held = [table_key("marts", name) for name in MODELS if name != "free"]
    for record in instance.get_asset_records(held):
        # Planned in this run and not made by it: Dagster's word for an asset that failed.
        assert record.asset_entry.last_run_id == result.run_id
        assert record.asset_entry.last_materialization_record.run_id != result.run_id
    (failure,) = result.get_step_failure_events()
    said = str(failure.step_failure_data.error_display_string)
    assert "marts/suspect failed: unique_suspect_k; readers keep version 0" in said
    assert "marts/parent failed: no_overlap" in said
    assert "marts/child it is built from parent, which is held" in said
    assert 'dbt show --inline "select * from marts.held__child"' in said
    checks = {e.check_name: e.passed for e in result.get_asset_check_evaluations()}
    assert checks["unique_suspect_k"] is False
    # The test over two tables is a check of the one that is built from the other.
    assert checks["no_overlap"] is False
    (overlap,) = (e for e in result.get_asset_check_evaluations() if e.check_name == "no_overlap")
    assert overlap.asset_key == table_key("marts", "other")
    assert overlap.severity == dg.AssetCheckSeverity.ERROR
    assert small.rows("marts/suspect") == small.rows("marts/child") == [(1,)]
    assert small.rows("marts/free") == [(200,), (200,)]
    for name in ("suspect", "child"):
        shown = small.run_well("show", "--inline", f"select * from marts.held__{name}")
        assert [tuple(row) for row in shown.result.results[0].agate_table.rows] == [(200,), (200,)]

    small.write_source("events", _events(2))
    repaired = run()
    assert repaired.success
    assert {e.check_name: e.passed for e in repaired.get_asset_check_evaluations()} == dict.fromkeys(checks, True)
    assert _materialized(repaired) == {f"marts/{name}" for name in MODELS}
    assert small.rows("marts/child") == [(2,)]
