"""One playing of the whole demo, as a newcomer does it, for all tests that look at its result."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]
FACTORY = str(Path(sys.executable).with_name("factory"))


def environment(data: Path) -> Mapping[str, str]:
    """The variables of a process on its own data folder."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("FACTORY_", "DAGSTER_"))}
    return {**own, "FACTORY_DATA_DIR": str(data), "DAGSTER_HOME": str(data / "dagster")}


def run_factory(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The `factory` command, as the Makefile calls it."""
    return subprocess.run(
        [FACTORY, *arguments], cwd=ROOT, env=environment(data), capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="session")
def played_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder after `make demo`; TEST_DEMO_DATA names one that was played before, to look again quickly."""
    before = os.environ.get("TEST_DEMO_DATA")
    if before:
        return Path(before)
    # The workers of one run have folders beside each other: the first plays, the others wait for it.
    is_one_of_several = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()
    data = (base.parent if is_one_of_several else base) / "demo"
    with FileLock(f"{data}.lock"):
        if not data.is_dir():
            data.mkdir()
            done = run_factory(data, "demo")
            assert done.returncode == 0, done.stdout + done.stderr
    return data
