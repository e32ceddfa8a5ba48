"""Analysts' own areas of the lake: where a sandbox lies, what is in it, and how it goes away again.

A sandbox holds only the tables that were built in it; everything else is read from production where it lies. Sandboxes of
one analyst lie beside the lake: `<lake>/../sandboxes/<user>`, and `<user>@<instant>` for one that rebuilds the past.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from pyarrow import fs

from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.delta.object_stores import open_filesystem, parse_place

FOLDER = "sandboxes"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
_INSTANT_MARK = "@"


class SandboxError(ValueError):
    """A sandbox that cannot be named or found."""


@dataclass(frozen=True)
class Sandbox:
    """One sandbox: its name, its lake, and the tables that were built in it."""

    name: str
    lake: Lake
    tables: tuple[str, ...]


def find_sandbox(production: Lake, user: str, as_of: datetime | None = None) -> Lake:
    """The lake of a user's sandbox, which need not exist; one of its own for each instant that the past is rebuilt as of.

    Raises:
        SandboxError: `user` is no name for a folder.
    """
    if not _NAME.fullmatch(user):
        raise SandboxError(
            f"{user!r} is no name for a sandbox: set FACTORY_SANDBOX to letters, digits, underscores, dots or hyphens"
        )
    suffix = "" if as_of is None else f"{_INSTANT_MARK}{as_of.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    return Lake(f"{_sandboxes_root(production)}/{user}{suffix}")


def list_sandboxes(production: Lake, user: str | None = None) -> list[Sandbox]:
    """All sandboxes beside a lake, or those of one user, by name."""
    root = _sandboxes_root(production)
    selector = fs.FileSelector(parse_place(root).path, allow_not_found=True)
    found = open_filesystem(root).get_file_info(selector)
    names = sorted(info.base_name for info in found if info.type == fs.FileType.Directory)
    wanted = [name for name in names if user is None or name.partition(_INSTANT_MARK)[0] == user]
    return [Sandbox(name, lake, tuple(lake.files.table_names())) for name, lake in _lakes(root, wanted)]


def drop_sandbox(production: Lake, name: str) -> None:
    """Removes a sandbox with everything in it. Production is not below it, and is never touched.

    Raises:
        SandboxError: There is no such sandbox.
    """
    root = _sandboxes_root(production)
    if name not in [sandbox.name for sandbox in list_sandboxes(production)]:
        raise SandboxError(f"there is no sandbox {name!r} in {root}")
    open_filesystem(root).delete_dir(f"{parse_place(root).path}/{name}")


def _lakes(root: str, names: list[str]) -> Iterator[tuple[str, Lake]]:
    return ((name, Lake(f"{root}/{name}")) for name in names)


def _sandboxes_root(production: Lake) -> str:
    parent, _, _ = production.root.rstrip("/").rpartition("/")
    if not parent or parent.endswith(("/", ":")):
        raise SandboxError(
            f"the lake {production.root} has no folder beside it for sandboxes: put the lake into a folder of its bucket"
        )
    return f"{parent}/{FOLDER}"
