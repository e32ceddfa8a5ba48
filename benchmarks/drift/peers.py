"""Evidently in an environment of its own: it does not run beside pandas 3."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

_REQUIREMENTS = ("evidently==0.7.23", "pandas<3", "pyarrow")


@cache
def peer_python(folder: Path) -> str:
    """An interpreter that has Evidently: that of BENCHMARK_EVIDENTLY_PYTHON, or one made in `folder` by uv."""
    given = os.environ.get("BENCHMARK_EVIDENTLY_PYTHON")
    if given:
        return given
    python = folder / "evidently" / "bin" / "python"
    if not python.is_file():
        uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(python.parents[1])], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", str(python), *_REQUIREMENTS], check=True)
    return str(python)


def run_evidently(folder: Path, script: str, arguments: Sequence[str]) -> Any:
    """Runs one of this package's scripts there and reads the JSON it prints."""
    path = Path(__file__).with_name(script)
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "DO_NOT_TRACK": "1"}
    done = subprocess.run(
        [peer_python(folder), str(path), *arguments], check=True, capture_output=True, text=True, env=environment
    )
    return json.loads(done.stdout[done.stdout.index("{") :])
