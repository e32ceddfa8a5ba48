"""Builds that are killed: no row is lost or doubled, and what is read together belongs together."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from deltalake import write_deltalake

from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.tables.publishes import Publishes
from tests.dbt.builds import (
    TABLES,
    build_server,
    build_until_publishing,
    read_completed,
    read_numbers,
    start_build,
)
from tests.dbt.conftest import Sandbox

ROOT = Path(__file__).parents[2]
KILLS = 30
# `numbered` has five tables: killed before the first commit, between two of them, and after the last.
KILLED_AFTER = (0, 1, 2, 4, 5)
TWO_DAYS = 2 * 86_400


def _stages(lake: Path) -> set[Path]:
    return set(lake.glob("marts/*/staged/*"))


def _age(stages: set[Path]) -> None:
    for file in (file for stage in stages for file in stage.rglob("*") if file.is_file()):
        os.utime(file, (time.time() - TWO_DAYS,) * 2)


def _published_stages(lake: Path) -> set[Path]:
    """Stages that some version of a table names."""
    logs = [log.read_text() for log in lake.glob("marts/*/_delta_log/*.json")]
    return {stage for stage in _stages(lake) if any(f"staged/{stage.name}/" in log for log in logs)}


@pytest.mark.slow
def test_a_build_killed_at_any_instant_leaves_one_truth(numbered: Sandbox, tmp_path: Path) -> None:
    server, lake, dice = build_server(), Lake(str(numbered.lake)), random.Random(2013)
    for _ in range(2):
        began = time.monotonic()
        whole = start_build(server, numbered.lake, tmp_path / "work", numbered.project, 0)
        whole.join()
        assert whole.exitcode == 0
    # The second: the first has waited for the server's imports.
    build_seconds = time.monotonic() - began
    done = 0
    for number in range(1, KILLS + 1):
        process = start_build(server, numbered.lake, tmp_path / "work", numbered.project, number)
        process.join(dice.uniform(0.3, 1.05) * build_seconds)
        process.kill()
        process.join()
        seen = read_completed(lake)
        assert done <= seen <= number
        done = seen
        for name in TABLES:
            newest = [n for n, _ in numbered.rows(f"marts/{name}")]
            assert len(set(newest)) == len(newest)
            assert name == "appended" or len(newest) == 1
    _age(_stages(numbered.lake))
    last = start_build(server, numbered.lake, tmp_path / "work", numbered.project, KILLS + 1)
    last.join()
    assert last.exitcode == 0
    assert read_completed(lake) == KILLS + 1
    assert Publishes.read(lake).pending == []
    assert [numbered.rows(f"marts/{name}")[-1][0] for name in TABLES] == [KILLS + 1] * len(TABLES)
    assert _stages(numbered.lake) == _published_stages(numbered.lake)


@pytest.mark.slow
def test_what_a_killed_build_had_begun_to_publish_is_finished_by_the_next(numbered: Sandbox, tmp_path: Path) -> None:
    server, lake = build_server(), Lake(str(numbered.lake))
    assert _run_while_reading(server, numbered, tmp_path, 0, first=True) == 0
    for number, published in enumerate(KILLED_AFTER, start=1):
        killed = _run_while_reading(server, numbered, tmp_path, number, published, target=build_until_publishing)
        assert killed == -9
        assert len(Publishes.read(lake).pending) == 5
        # The tables themselves are of two runs; who reads several gets the one before.
        newest = [numbered.table(f"marts/{name}").version() for name in (*TABLES, "together")]
        assert newest.count(number) == published
        assert read_completed(lake) == number - 1
    last = len(KILLED_AFTER) + 1
    assert _run_while_reading(server, numbered, tmp_path, last) == 0
    assert read_numbers(lake)["appended"] == list(range(last + 1))
    assert read_completed(lake) == last
    assert [numbered.table(f"marts/{name}").version() for name in TABLES] == [last] * len(TABLES)


def _run_while_reading(
    server: object, numbered: Sandbox, folder: Path, number: int, *more: int, first: bool = False, **target: object
) -> int | None:
    """A build to its end, with readers at work all the time: each of them sees one completed run."""
    process = start_build(server, numbered.lake, folder / "work", numbered.project, number, *more, **target)
    while process.is_alive():
        if not first:
            assert read_completed(Lake(str(numbered.lake))) <= number
        process.join(0.1)
    return process.exitcode


@pytest.mark.slow
def test_a_set_that_another_writer_met_half_published_is_given_up(numbered: Sandbox, tmp_path: Path) -> None:
    server, lake = build_server(), Lake(str(numbered.lake))
    assert _run_while_reading(server, numbered, tmp_path, 0, first=True) == 0
    assert _run_while_reading(server, numbered, tmp_path, 1, 1, target=build_until_publishing) == -9
    behind = next(name for name in TABLES if name != "whole" and numbered.table(f"marts/{name}").version() == 0)
    write_deltalake(
        str(numbered.lake / "marts" / behind), numbered.table(f"marts/{behind}").to_pyarrow_table(), mode="overwrite"
    )
    assert read_completed(lake) == 0
    assert _run_while_reading(server, numbered, tmp_path, 2) == 0
    assert read_completed(lake) == 2
    appended = read_numbers(lake)["appended"]
    assert appended in ([0, 1, 2], [0, 2])
    assert (appended == [0, 2]) == (behind == "appended")


@pytest.mark.slow
def test_ctrl_c_leaves_readers_where_they_were_and_says_so(numbered: Sandbox, tmp_path: Path) -> None:
    server, lake, work = build_server(), Lake(str(numbered.lake)), tmp_path / "work"
    assert _run_while_reading(server, numbered, tmp_path, 0, first=True) == 0
    places = ", ".join(repr(str(place)) for place in (numbered.lake, work, numbered.project))
    code = f"from tests.dbt.builds import build_until_ctrl_c; build_until_ctrl_c({places}, 1)"
    stopped = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert stopped.returncode == 1
    assert "this run ended before it could publish: readers keep what they had" in stopped.stderr
    assert read_completed(lake) == 0
    assert Publishes.read(lake).pending == []
    assert [numbered.table(f"marts/{name}").version() for name in TABLES] == [0] * len(TABLES)
    assert _run_while_reading(server, numbered, tmp_path, 2) == 0
    assert read_numbers(lake)["appended"] == [0, 2]
