"""Builds that meet: no row is lost or doubled, and what is read together belongs together."""

from pathlib import Path

import pytest

from factory_assets.storage.delta.lake import Lake
from tests.dbt.builds import TABLES, build_server, read_numbers, start_build
from tests.dbt.conftest import Sandbox


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
    found = read_numbers(Lake(str(numbered.lake)))
    assert found["appended"] == list(range(builds))
    (last,) = found["whole"]
    assert (found["merged"], found["by_key"]) == ([last], [last])
    assert [numbered.table(f"marts/{name}").version() for name in TABLES] == [builds - 1] * len(TABLES)
