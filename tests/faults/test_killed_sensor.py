"""The sensor daemon killed with SIGKILL at every point between a failed check and a launched run; two daemons at once."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.scheduler.instigation import TickStatus

from factory_assets.components.naming import REQUEST_TAG
from factory_assets.storage.clock import FactoryClock
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.tables.retrain_ledger import RetrainLedger
from tests.faults.sensor_location import NOW

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
CRASHES = [
    "TICK_CREATED",
    "TICK_HELD",
    "before-ledger",
    "after-ledger",
    "RUN_IDS_RESERVED",
    "RUN_CREATED",
    "RUN_LAUNCHED",
]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Callable[[str], list[int]]]:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    FactoryClock(tmp_path / "clock.json").set(NOW)
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(tmp_path / "home"),
        "FAULT_FOLDER": str(tmp_path),
        "FACTORY_SENSOR_INTERVAL_SECONDS": "1",
    }
    with (tmp_path / "zygote.log").open("w") as log:
        zygote = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.faults.sensor_zygote"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert zygote.stdin is not None
        assert zygote.stdout is not None

        def do(command: str) -> list[int]:
            zygote.stdin.write(command + "\n")
            zygote.stdin.flush()
            answer = zygote.stdout.readline()
            assert answer, (tmp_path / "zygote.log").read_text()[-3000:]
            return [int(code) for code in answer.split()]

        yield do
        zygote.stdin.close()
        zygote.wait()


def answers(folder: Path) -> Counter[str]:
    entries = RetrainLedger(Lake(str(folder / "lake"))).entries("delay")
    return Counter(entry.cause.key for entry in entries if entry.state in ("promoted", "kept_champion"))


def runs(folder: Path) -> list[dg.DagsterRun]:
    with dg.DagsterInstance.from_config(str(folder / "home")) as instance:
        return [run for run in instance.get_runs() if REQUEST_TAG in run.tags]


def failed_ticks(folder: Path) -> list[str]:
    with dg.DagsterInstance.from_config(str(folder / "home")) as instance:
        states = instance.all_instigator_state()
        ticks = [tick for state in states for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id)]
    return [str(tick.error) for tick in ticks if tick.status is TickStatus.FAILURE]


@pytest.mark.parametrize("crash", CRASHES)
def test_killed_anywhere_a_failed_check_has_one_run_and_one_answer(
    crash: str, world: Callable[[str], list[int]], tmp_path: Path
) -> None:
    assert world("judge") == [0]
    assert world(f"tick {crash}") == [-signal.SIGKILL], (tmp_path / "zygote.log").read_text()[-3000:]
    assert world("tick") == [0]
    assert world("tick") == [0]
    assert len(runs(tmp_path)) == 1
    assert world("retrain kept_champion") == [0]
    assert world("judge") == [0]  # the same failure seen again
    assert world("tick") == [0]
    assert len(runs(tmp_path)) == 1
    assert list(answers(tmp_path).values()) == [1]


def test_two_daemons_ask_for_one_effective_retrain(world: Callable[[str], list[int]], tmp_path: Path) -> None:
    assert world("judge") == [0]
    for _ in range(3):
        assert world("tick & tick") == [0, 0]
    assert world("retrain kept_champion & retrain kept_champion") == [0, 0]
    assert world("tick & tick") == [0, 0]
    assert failed_ticks(tmp_path) == []
    assert len({run.tags[REQUEST_TAG] for run in runs(tmp_path)}) == 1
    assert list(answers(tmp_path).values()) == [1]
