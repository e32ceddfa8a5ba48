"""Where the fits of a cycle wait for its decisions: on disk, so that ten thousand of them are as light as one."""

import os
import pickle
import tempfile
from dataclasses import dataclass
from typing import Any

from factory_assets.core.models.artefacts import AnyModel, StoredModel
from factory_assets.storage.stored_file import StoredFile


@dataclass(frozen=True)
class StagedValue:
    """The place of a value on the stage."""

    start: int
    length: int


class FitStage:
    """A file without a name, to which all is appended; it goes with the object, and with the process however that ends."""

    def __init__(self) -> None:
        """Makes the file."""
        self._writer = tempfile.TemporaryFile(prefix="factory-fits-", buffering=0)  # noqa: SIM115 (it ends with the object)
        self._file = StoredFile(os.dup(self._writer.fileno()))
        self._length = 0

    def put_model(self, model: AnyModel) -> StoredModel:
        """Lays a model's bytes aside; what is returned stands for it."""
        place = self._append(model.payload)
        return StoredModel(self._file, place.start, place.length, model.raw_bytes, model.sha256)

    def put(self, value: Any) -> StagedValue:
        """Lays any picklable value aside."""
        return self._append(pickle.dumps(value, 5))

    def take(self, place: StagedValue) -> Any:
        """An equal value."""
        return pickle.loads(self._file.read(place.start, place.length))  # noqa: S301 (nobody else can write to the file)

    def _append(self, blob: bytes) -> StagedValue:
        place = StagedValue(self._length, len(blob))
        rest = memoryview(blob)
        while rest:
            rest = rest[self._writer.write(rest) :]
        self._length += len(blob)
        return place
