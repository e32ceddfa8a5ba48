"""Which code this is: the commit of the checkout, if it is one."""

import io
import subprocess
import tarfile
from pathlib import Path


class GitRefError(ValueError):
    """A ref that this checkout does not know, or that lacks the folder asked for; the message is git's."""


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


def export_folder(folder: Path, ref: str, destination: Path) -> Path:
    """Writes `folder` as it is at `ref` below `destination`, and returns where it lies there.

    Raises:
        GitRefError: when there is no such ref, or no such folder in it.
    """
    try:
        place = _ask_git(folder, ["rev-parse", "--show-prefix", "--show-toplevel"]).decode().splitlines()
        prefix, top = place[0], Path(place[1])
        archived = _ask_git(top, ["archive", "--format=tar", "--end-of-options", f"{ref}:{prefix}"])
    except FileNotFoundError as error:
        raise GitRefError("git is not installed, so there is no ref to compare with: leave --against out") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise GitRefError(f"{folder} cannot be read at {ref!r}: {said}. Name a branch, tag or commit that has it") from error
    with tarfile.open(fileobj=io.BytesIO(archived)) as archive:
        archive.extractall(destination / folder.name, filter="data")
    return destination / folder.name


def _ask_git(folder: Path, arguments: list[str]) -> bytes:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=True).stdout
