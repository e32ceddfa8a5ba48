"""kill -9 at any moment of the demo, and again: it finishes, and the tables are those of an undisturbed playing."""

import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.tables.publishes import Publishes
from tests.end_to_end.conftest import FACTORY, ROOT, environment, run_factory

pytestmark = pytest.mark.slow

# Each playing is killed after such a share of the time that the undisturbed one took on this machine.
KILLED_AFTER = (0.04, 0.09, 0.12, 0.16, 0.2, 0.24, 0.3, 0.36, 0.44, 0.53)
# What names a process, a wall-clock instant or a count of writes differs between any two playings.
_OWN_TO_A_PLAYING = {
    "dagster_run_id",
    "mlflow_run_id",
    "run_id",
    "recorded_at_utc",
    "feature_set_version",
    "training_set_version",
    "label_version",
    "run_key",
    "sequence",
    "step",
    "attempts",
    "failures",
    "evidence",
    "evaluated_at_utc",
    "reserved_cpu_seconds",
    "git_commit",
    "inputs",
    "mean",  # its last digit is that of the order in which threads came to add
}
# What a playing took, and by which of its runs each table was published.
_RECORDS_OF_A_PLAYING = {"ops/costs", "ops/publishes"}
# A retrain that is killed between its answer and its verdicts leaves those to the next round of checks.
_NEWEST_ALONE = {"ops/check_results": "evaluated_at_utc", "ops/drift": "window_end_utc"}


def contents(data: Path) -> dict[str, pa.Table]:
    """All tables of the lake, their rows in the order of all their columns."""
    lake = Lake(str(data / "lake"))
    found = {}
    for log in sorted((data / "lake").glob("*/*/_delta_log")):
        name = f"{log.parent.parent.name}/{log.parent.name}"
        if name in _RECORDS_OF_A_PLAYING:
            continue
        pinned = lake.pin(name)
        columns = ", ".join(f'"{column}"' for column in pinned.columns if column not in _OWN_TO_A_PLAYING)
        kept = "where state in ('promoted', 'kept_champion')" if name == "ops/retrain_ledger" else ""
        if moment := _NEWEST_ALONE.get(name):
            kept = f"qualify {moment} = max({moment}) over (partition by line)"
        found[name] = lake.query(f"select {columns} from t {kept} order by all", t=pinned)
    return found


def differing(one: pa.Table, other: pa.Table) -> list[str]:
    return [column for column in one.column_names if not one[column].equals(other[column])] or ["their order"]


@dataclass(frozen=True)
class Played:
    """What a playing left, and how long it took."""

    data: Path
    seconds: float


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Played:
    data = tmp_path_factory.mktemp("undisturbed")
    started = time.monotonic()
    done = run_factory(data, "demo", "--small")
    assert done.returncode == 0, done.stdout + done.stderr
    return Played(data, time.monotonic() - started)


def play_and_kill(data: Path, seconds: Iterable[float]) -> Iterator[int]:
    """Plays the demo again and again, killing it after so many seconds; yields each exit code."""
    for patience in seconds:
        process = subprocess.Popen(
            [FACTORY, "demo", "--small"],
            cwd=ROOT,
            env=environment(data),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            output, _ = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            output, _ = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), output
        yield process.returncode
        if process.returncode == 0:
            return


def test_a_demo_that_is_killed_again_and_again_ends_with_the_same_tables(undisturbed: Played, tmp_path: Path) -> None:
    codes = list(play_and_kill(tmp_path, [share * undisturbed.seconds for share in KILLED_AFTER]))
    assert codes.count(-signal.SIGKILL) > 4, "the demo was too quick to be killed a few times"
    # However slow the machine is, the last one is given its time; it says itself when it waits in vain.
    done = run_factory(tmp_path, "demo", "--small")
    assert done.returncode == 0, done.stdout + done.stderr
    expected, found = contents(undisturbed.data), contents(tmp_path)
    assert found.keys() == expected.keys()
    for name, table in expected.items():
        assert found[name].equals(table), f"{name} differs in {differing(found[name], table)}"
    published = Publishes.read(Lake(str(tmp_path / "lake"))).records.values()
    assert [record for record in published if record.pending_run_id] == []


def test_the_kill_was_no_matter_of_luck(undisturbed: Played) -> None:
    """The comparison sees a single changed value."""
    table = contents(undisturbed.data)["predictions/arrival_delay"]
    changed = table.set_column(table.column_names.index("score"), "score", pa.array([0.0] * table.num_rows))
    assert not changed.equals(table)
