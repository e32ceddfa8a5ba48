import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from factory_assets.compute.backends import open_fan_out
from factory_assets.compute.chunks import Lost, plan_chunks
from factory_assets.compute.processes import ProcessFanOut, WorkerStartError
from tests.compute.chunk_work import (
    Unloadable,
    die_at,
    die_once,
    die_with_the_nursery,
    die_without_a_word,
    kill_the_nursery,
    refuse,
    say_process,
    sum_of,
)
from tests.compute.conftest import SEGMENTS
from tests.compute.small_fleet import hashes_by

CHUNKS = [tuple(SEGMENTS[:5]), tuple(SEGMENTS[5:])]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_do_not_depend_on_the_number_of_workers(workers, table, sums) -> None:
    chunks = plan_chunks(SEGMENTS, lambda segment: sums[segment], workers)
    assert dict(ProcessFanOut(workers).map(sum_of, chunks, table)) == sums


def test_serial_gives_the_same(table, sums) -> None:
    assert dict(open_fan_out("serial").map(sum_of, CHUNKS, table)) == sums


def test_the_models_of_a_fleet_are_the_same_to_the_byte_wherever_they_are_fitted() -> None:
    here = hashes_by(open_fan_out("serial"), 1)
    assert set(here) == {"all", "AA", "B6", "DL", "UA"}
    assert hashes_by(ProcessFanOut(2), 2) == here


def test_a_worker_starts_from_the_package_alone_with_one_thread(table) -> None:
    found = dict(ProcessFanOut(2).map(say_process, CHUNKS, table))
    for about in found.values():
        assert about["heavy"] == []
        assert about["omp"] == "1"
        assert set(about["pools"]) <= {1}
        assert Path(about["main"]).name == "worker.py"
    assert len({about["pid"] for about in found.values()}) == 2
    (nursery,) = {about["parent"] for about in found.values()}
    assert nursery not in {os.getpid(), *(about["pid"] for about in found.values())}


def test_a_nursery_that_was_killed_is_replaced(table, sums, tmp_path: Path) -> None:
    job = functools.partial(die_with_the_nursery, tmp_path / "mark")
    assert dict(ProcessFanOut(1).map(job, CHUNKS, table)) == sums


def test_workers_whose_nursery_is_killed_work_on(table, sums, tmp_path: Path) -> None:
    job = functools.partial(kill_the_nursery, tmp_path / "mark")
    assert dict(ProcessFanOut(2).map(job, CHUNKS, table)) == sums


def test_a_function_that_cannot_be_loaded_is_said(table) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        list(ProcessFanOut(1).map(Unloadable(), CHUNKS, table))


def test_a_killed_worker_loses_only_what_it_had_not_finished(table, sums, tmp_path: Path) -> None:
    job = functools.partial(die_once, tmp_path / "mark")
    assert dict(ProcessFanOut(1).map(job, CHUNKS, table)) == sums
    assert sorted((tmp_path / "finished").read_text().split()) == SEGMENTS


@pytest.mark.parametrize("job", [die_at, die_without_a_word])
def test_the_segment_that_kills_its_workers_is_found_and_harms_no_other(job, table, sums) -> None:
    found = dict(ProcessFanOut(2).map(functools.partial(job, "s2"), CHUNKS, table))
    lost = found.pop("s2")
    assert isinstance(lost, Lost)
    assert "killed by SIGKILL" in lost.reason
    assert found == {segment: value for segment, value in sums.items() if segment != "s2"}


def test_what_the_function_raises_is_raised_here_with_its_place(table) -> None:
    with pytest.raises(KeyError, match="no column for s") as raised:
        list(ProcessFanOut(2).map(refuse, CHUNKS, table))
    assert "in refuse" in raised.value.__notes__[0]


def test_workers_that_cannot_start_are_no_fault_of_a_segment(table, monkeypatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(WorkerStartError, match="3 times in a row"):
        list(ProcessFanOut(1).map(sum_of, CHUNKS, table))


def test_workers_end_with_the_one_who_asks(table) -> None:
    results = ProcessFanOut(2).map(say_process, CHUNKS, table)
    _, about = next(results)
    results.close()
    with pytest.raises(ProcessLookupError):
        os.kill(about["pid"], 0)


def test_workers_end_when_their_starter_is_killed() -> None:
    """The starter kills itself while its worker sits in an endless chunk; the worker's end of the pipe closes with it."""
    script = (
        "import os, pyarrow as pa\n"
        "from factory_assets.compute.processes import ProcessFanOut\n"
        "from tests.compute.chunk_work import say_then_wait\n"
        "for _, pid in ProcessFanOut(1).map(say_then_wait, [('a', 'b')], pa.table({'x': [1]})):\n"
        "    print(pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    # The worker inherits stdout, so `run` returns only when both are gone; else it raises after the two minutes.
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == -9
    assert done.stdout.strip().isdigit()
