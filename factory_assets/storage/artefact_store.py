"""Model artefacts in the lake, one file a version, named by its content: `models/<line>/<sha256>.bundle`."""

import hashlib
import os
import uuid
from dataclasses import dataclass
from pathlib import Path


class ArtefactMissingError(LookupError):
    """A recorded model has lost its file."""


@dataclass(frozen=True)
class ArtefactStore:
    """Keeps opaque bytes under their SHA-256. Nothing here deserialises; who loads must name the hash it recorded."""

    root: Path

    def write(self, line: str, blob: bytes) -> tuple[str, str]:
        """Stores `blob`; returns its path below the root and its SHA-256. Storing it twice changes nothing."""
        sha256 = hashlib.sha256(blob).hexdigest()
        name = f"{line}/{sha256}.bundle"
        path = self.root / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft = path.with_suffix(f".{uuid.uuid4().hex}.draft")
            with draft.open("wb") as handle:
                handle.write(blob)
                handle.flush()
                os.fsync(handle.fileno())
            draft.replace(path)
        return name, sha256

    def holds(self, name: str) -> bool:
        """Whether the file is there."""
        return (self.root / name).is_file()

    def read(self, name: str) -> bytes:
        """The stored bytes, unchecked.

        Raises:
            ArtefactMissingError: naming the file.
        """
        path = self.root / name
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            raise ArtefactMissingError(
                f"the model file {path} is gone: restore it, or retrain the line (its older versions still load)"
            ) from error
