"""Builds that meet: no row is lost or doubled, and what is read together belongs together."""

from pathlib import Path

import pytest

from factory_assets.storage.delta import Lake
from tests.dbt.builds import build_server, start_build
from tests.dbt.conftest import Sandbox

TABLES = ("whole", "appended", "merged", "by_key")


@pytest.fixture
def numbered(sandbox: Sandbox) -> Sandbox:
    """Four tables that each take in the run's number in their own way, and one that checks that they agree."""
    row = "select cast({{ var('number') }} as bigint) as n, 1 as k"
    sandbox.model("whole", row, {"columns": [{"name": "n", "data_tests": ["not_null", "unique"]}]})
    newer = "{% if is_incremental() %} where {{ var('number') }} not in (select n from {{ this }}) {% endif %}"
    sandbox.model(
        "appended", row + newer, {"columns": [{"name": "n", "data_tests": ["unique"]}]}, incremental_strategy="append"
    )
    sandbox.model("merged", row, incremental_strategy="merge", unique_key="k")
    sandbox.model("by_key", row, incremental_strategy="replace_partitions", partition_by="k")
    agree = (
        "select w.n from {{ ref('whole') }} as w join {{ ref('merged') }} as m using (n) join {{ ref('by_key') }} using (n)"
    )
    sandbox.model("together", agree, {"data_tests": [{"has_rows": {}}]})
    (sandbox.project / "tests" / "generic").mkdir(parents=True)
    check = "{% test has_rows(model) %} select 1 where (select count(*) from {{ model }}) <> 1 {% endtest %}"
    (sandbox.project / "tests" / "generic" / "has_rows.sql").write_text(check)
    return sandbox


def _numbers(lake: Lake) -> dict[str, list[int]]:
    pinned = lake.pin_published(*(f"marts/{name}" for name in TABLES))
    return {
        name: [row["n"] for row in lake.query("select n from t order by n", t=table).to_pylist()]
        for name, table in zip(TABLES, pinned, strict=True)
    }


@pytest.mark.slow
@pytest.mark.parametrize("builds", [2, 4])
def test_builds_at_once_lose_and_double_nothing(builds: int, numbered: Sandbox, tmp_path: Path) -> None:
    server = build_server()
    running = [
        start_build(server, numbered.lake, tmp_path / f"work{number}", numbered.project, number) for number in range(builds)
    ]
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0] * builds
    found = _numbers(Lake(str(numbered.lake)))
    assert found["appended"] == list(range(builds))
    (last,) = found["whole"]
    assert (found["merged"], found["by_key"]) == ([last], [last])
    assert [numbered.table(f"marts/{name}").version() for name in TABLES] == [builds - 1] * len(TABLES)
