"""Which code this is: the commit of the checkout, if it is one."""

import subprocess
from pathlib import Path


def read_git_commit() -> str:
    """The commit hash, with `-dirty` when tracked files differ; 'unknown' outside a checkout."""
    folder = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            [
                "git",
                "describe",
                "--always",
                "--abbrev=40",
                "--dirty",
                "--exclude=*",
            ],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"
