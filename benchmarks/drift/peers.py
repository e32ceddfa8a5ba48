"""Evidently and NannyML, each in an environment of its own: they do not run beside this project's packages."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

# NannyML imports statsmodels and does not ask for it.
_REQUIREMENTS = {
    "evidently": ("evidently==0.7.23", "pandas<3", "pyarrow"),
    "nannyml": ("nannyml==0.13.1", "statsmodels", "pyarrow"),
}


@cache
def peer_python(folder: Path, peer: str = "evidently") -> str:
    """An interpreter that has the peer: that of BENCHMARK_EVIDENTLY_PYTHON (…NANNYML…), or one made in `folder` by uv."""
    given = os.environ.get(f"BENCHMARK_{peer.upper()}_PYTHON")
    if given:
        return given
    python = folder / peer / "bin" / "python"
    if not python.is_file():
        uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(python.parents[1])], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", str(python), *_REQUIREMENTS[peer]], check=True)
    return str(python)


def run_peer(folder: Path, script: Path, arguments: Sequence[str], peer: str = "evidently") -> Any:
    """Runs a script there and reads the JSON it prints."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "DO_NOT_TRACK": "1", "NML_DISABLE_USAGE_LOGGING": "1"}
    done = subprocess.run(
        [peer_python(folder, peer), str(script), *arguments], check=False, capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise RuntimeError(f"{script.name} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout[done.stdout.index("{") :])


def run_evidently(folder: Path, script: str, arguments: Sequence[str]) -> Any:
    """Runs one of this package's scripts with Evidently."""
    return run_peer(folder, Path(__file__).with_name(script), arguments)
