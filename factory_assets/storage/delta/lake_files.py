"""The files below a lake's root, on a local disk or in an object store: what tables there are, and how large files are."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pyarrow import fs

from factory_assets.storage.delta.object_stores import open_filesystem, parse_place

_LOG_FOLDER = "_delta_log"
_STAGES_FOLDER = "staged"


@dataclass(frozen=True)
class LakeFiles:
    """One root in one file system; every path counts from the root."""

    filesystem: fs.FileSystem
    root: str

    def table_names(self) -> list[str]:
        """The names '<schema>/<table>' of all Delta tables, in order; none where there is no lake yet."""
        return [
            f"{schema}/{table}"
            for schema in self._folders("")
            for table in self._folders(schema)
            if self._is_folder(f"{schema}/{table}/{_LOG_FOLDER}")
        ]

    def staged_tables(self) -> list[str]:
        """The names of the tables with stages, also of those that have never been published."""
        return [
            f"{schema}/{table}"
            for schema in self._folders("")
            for table in self._folders(schema)
            if self._is_folder(f"{schema}/{table}/{_STAGES_FOLDER}")
        ]

    def size_of(self, paths: Iterable[str]) -> int:
        """Bytes of the files at `paths` together; a file that is gone has none."""
        found = self.filesystem.get_file_info([self._full(path) for path in paths])
        return sum(info.size or 0 for info in found if info.type == fs.FileType.File)

    def last_checkpoint(self, table: str) -> int | None:
        """The version of a table's newest checkpoint; None when it has none."""
        path = self._full(f"{table}/{_LOG_FOLDER}/_last_checkpoint")
        if self.filesystem.get_file_info(path).type != fs.FileType.File:
            return None
        with self.filesystem.open_input_stream(path) as stream:
            noted: dict[str, Any] = json.loads(stream.read())
        return int(noted["version"])

    def _folders(self, path: str) -> list[str]:
        selector = fs.FileSelector(self._full(path), allow_not_found=True)
        found = self.filesystem.get_file_info(selector)
        return sorted(info.base_name for info in found if info.type == fs.FileType.Directory)

    def _is_folder(self, path: str) -> bool:
        return bool(self.filesystem.get_file_info(self._full(path)).type == fs.FileType.Directory)

    def _full(self, path: str) -> str:
        return f"{self.root.rstrip('/')}/{path}".rstrip("/")


def open_files(root: str) -> LakeFiles:
    """The files below `root`, a local folder or the address of one in an object store."""
    return LakeFiles(open_filesystem(root), parse_place(root).path)
