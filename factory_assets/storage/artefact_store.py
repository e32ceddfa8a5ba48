"""Model artefacts in the lake, one file a version, named by its content: `models/<line>/<sha256>.bundle`."""

import hashlib
import os
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from factory_assets.storage.stored_file import StoredFile


class ArtefactMissingError(LookupError):
    """A recorded model has lost its file."""


@dataclass(frozen=True)
class ArtefactStore:
    """Keeps opaque bytes under their SHA-256. Nothing here deserialises; who loads must name the hash it recorded."""

    root: Path

    def write(self, line: str, pieces: Iterable[bytes]) -> tuple[str, str]:
        """Stores the bytes of `pieces`, of which one at a time is in memory; returns their path below the root and SHA-256.

        Storing them twice changes nothing. What dies before the end leaves a draft that nobody reads.
        """
        folder = self.root / line
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = folder / f"{uuid.uuid4().hex}.draft"
        hasher = hashlib.sha256()
        try:
            with draft.open("wb") as handle:
                for piece in pieces:
                    hasher.update(piece)
                    handle.write(piece)
                handle.flush()
                os.fsync(handle.fileno())
            sha256 = hasher.hexdigest()
            draft.replace(folder / f"{sha256}.bundle")
        finally:
            draft.unlink(missing_ok=True)
        return f"{line}/{sha256}.bundle", sha256

    def holds(self, name: str) -> bool:
        """Whether the file is there."""
        return self.path(name).is_file()

    def path(self, name: str) -> Path:
        """Where the file lies, or would."""
        return self.root / name

    def open(self, name: str) -> StoredFile:
        """The stored bytes, unchecked, to be read by place.

        Raises:
            ArtefactMissingError: naming the file.
        """
        path = self.path(name)
        try:
            return StoredFile.open(path)
        except FileNotFoundError as error:
            raise ArtefactMissingError(
                f"the model file {path} is gone: restore it, or retrain the line (its older versions still load)"
            ) from error
