"""The next version of a table before anybody else can see it: files beside the published ones, and the commit to come.

A stage lies in `<table>/staged/<stage>/`, below the table it belongs to, so that publishing moves no byte: the commit
names the very files that were audited. What it keeps of the table it keeps by name, what it drops it drops by name.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import TypeAlias
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable, WriterProperties, write_deltalake
from deltalake.schema import Field, PrimitiveType

from factory_assets.storage.delta.lake import TABLE_PROPERTIES
from factory_assets.storage.delta.log import Action, read_commit, refuse_unwritable
from factory_assets.storage.delta.snapshots import FileSet, read_file_set, typical_first
from factory_assets.storage.delta.table_place import TablePlace
from factory_assets.storage.sql import SqlValue

STAGES = "staged"
STAGE_KEY = "dbt_stage"
# One row group is read by one thread, so a group of delta-rs' default million rows would be read by a single one.
_WRITER_PROPERTIES = WriterProperties(compression="ZSTD", compression_level=1, max_row_group_size=131_072)

Partition: TypeAlias = tuple[SqlValue, ...]


@dataclass(frozen=True)
class DataFile:
    """One file of a table, by what its log says."""

    size: int
    partition: Partition
    rows: int


@dataclass(frozen=True)
class TableState:
    """One state of a table, published or staged: its columns, and its files by their paths in the log."""

    place: TablePlace
    fields: tuple[Field, ...]
    partition_by: tuple[str, ...]
    files: Mapping[str, DataFile]
    is_surely_complete: bool
    is_uniform: bool = False

    @classmethod
    def of_version(cls, table: DeltaTable, place: TablePlace) -> "TableState":
        """A published version.

        Raises:
            UnreadableTableError: The table needs more than its data files to be read right.
            UnwritableTableError: The table has a feature that a prepared commit would break.
        """
        refuse_unwritable(table)
        readable = read_file_set(table)
        partition_by = tuple(table.metadata().partition_columns)
        known = readable.is_surely_complete, readable.is_uniform
        return cls(place, readable.fields, partition_by, _data_files(table, partition_by), *known)

    @property
    def paths_by_location(self) -> dict[str, str]:
        """Each file's path in the log by where it lies, as DuckDB names it."""
        return {f"{self.place.duckdb_root}/{unquote(path)}": path for path in self.files}

    def file_set(self, only: Iterable[str] | None = None) -> FileSet:
        """The files for reading; with `only`, those at these paths of the log."""
        rows = {f"/{unquote(path)}": self.files[path].rows for path in (self.files if only is None else only)}
        paths = typical_first(sorted(rows), rows) if rows else ()
        is_complete = (self.is_surely_complete and only is None) or (self.is_uniform and bool(paths))
        return FileSet(self.place.duckdb_root, self.fields, self.partition_by, paths, is_complete, self.is_uniform)


@dataclass(frozen=True)
class WrittenFiles:
    """Files that a stage wrote: each as the log of the table will name it, and the schema they have in common."""

    fields: tuple[Field, ...]
    files: Mapping[str, DataFile]
    adds: tuple[Action, ...]
    protocol: Action
    metadata: Action

    @property
    def rows(self) -> int:
        """Rows in all files."""
        return sum(file.rows for file in self.files.values())


@dataclass(frozen=True)
class Stage:
    """The next version of one table, and the commit that will make it so.

    Attributes:
        stage_id: Its folder below `<table>/staged`.
        node: The dbt model.
        base_version: The version it was built on and must follow; -1 where there was no table.
        state: What readers will see.
        removed: Paths of the base version that it drops, with their sizes.
        adds: The files that it brings.
        table_actions: Protocol and metadata, where the commit changes them.
        transaction: The number of this commit among the model's own, one more than the table has of it.
        record: What is noted beside the commit.
        rows: Rows that the model brought.
    """

    stage_id: str
    node: str
    base_version: int
    state: TableState
    removed: Mapping[str, int]
    adds: tuple[Action, ...]
    table_actions: tuple[Action, ...]
    transaction: int
    record: Mapping[str, str]
    rows: int

    def commit(self, at: datetime) -> list[Action]:
        """The actions that publish this stage."""
        milliseconds = int(at.timestamp() * 1000)
        info = {
            "timestamp": milliseconds,
            "operation": "WRITE",
            "operationParameters": {"partitionBy": json.dumps(self.state.partition_by)},
            "operationMetrics": {
                "num_added_rows": self.rows,
                "num_added_files": len(self.adds),
                "num_removed_files": len(self.removed),
            },
            "engineInfo": "factory-assets",
            STAGE_KEY: self.stage_id,
            **self.record,
        }
        transaction = {"appId": self.node, "version": self.transaction, "lastUpdated": milliseconds}
        removes = (
            {"path": path, "deletionTimestamp": milliseconds, "dataChange": True, "size": size}
            for path, size in self.removed.items()
        )
        return [
            {"commitInfo": info},
            {"txn": transaction},
            *self.table_actions,
            *({"remove": remove} for remove in removes),
            *({"add": add} for add in self.adds),
        ]


def open_stage(node: str, stage_id: str, place: TablePlace, current: DeltaTable | None, record: Mapping[str, str]) -> Stage:
    """A stage that changes nothing yet."""
    if current is None:
        state = TableState(place, (), (), {}, is_surely_complete=False)
        return Stage(stage_id, node, -1, state, {}, (), (), 1, record, 0)
    state = TableState.of_version(current, place)
    transaction = (current.transaction_version(node) or 0) + 1
    return Stage(stage_id, node, current.version(), state, {}, (), (), transaction, record, 0)


def change_stage(
    stage: Stage,
    current: DeltaTable | None,
    written: WrittenFiles,
    dropped: Iterable[str],
    partition_by: tuple[str, ...],
    rows: int,
) -> Stage:
    """The stage after `written` came in, `rows` of it new, and the files at the paths `dropped` went out."""
    gone = set(dropped)
    kept = {path: file for path, file in stage.state.files.items() if path not in gone}
    # What an earlier step of this stage wrote is simply not named; what the table has must be removed by name.
    own = {str(add["path"]) for add in stage.adds}
    removed = {**stage.removed, **{path: stage.state.files[path].size for path in gone - own}}
    changed = (_shape(written.fields), partition_by) != (_shape(stage.state.fields), stage.state.partition_by)
    is_flat = all(isinstance(column.type, PrimitiveType) for column in written.fields)
    state = TableState(
        stage.state.place,
        written.fields,
        partition_by,
        {**kept, **written.files},
        is_surely_complete=bool(written.files) or (stage.state.is_surely_complete and not changed and bool(kept)),
        is_uniform=is_flat and (not kept or (stage.state.is_uniform and not changed)),
    )
    return replace(
        stage,
        state=state,
        removed=removed,
        adds=(*(add for add in stage.adds if add["path"] not in gone), *written.adds),
        table_actions=_table_actions(current, written, partition_by) if changed else stage.table_actions,
        rows=stage.rows + rows,
    )


def write_stage_files(
    rows: pa.RecordBatchReader,
    place: TablePlace,
    folder: str,
    partition_by: tuple[str, ...],
    properties: Mapping[str, str] = MappingProxyType({}),
) -> WrittenFiles:
    """Streams `rows` into files in `folder` of a table's place, where no reader of the table knows of them.

    They are a Delta table of their own there, by whose log sizes, statistics and partition values are known.
    `properties` say how they are written.
    """
    target = TablePlace(f"{place.uri}/{folder}")
    write_deltalake(
        target.uri,
        rows,
        mode="error",
        partition_by=list(partition_by) or None,
        configuration={**TABLE_PROPERTIES, **properties},
        storage_options=target.options,
        writer_properties=_WRITER_PROPERTIES,
    )
    table = DeltaTable(target.uri, version=0, storage_options=target.options)
    actions = read_commit(target, 0)
    assert actions is not None, target
    adds = [{**action["add"], "path": f"{folder}/{action['add']['path']}"} for action in actions if "add" in action]
    return WrittenFiles(
        fields=tuple(table.schema().fields),
        files={f"{folder}/{path}": file for path, file in _data_files(table, partition_by).items()},
        adds=tuple(adds),
        protocol=next(action["protocol"] for action in actions if "protocol" in action),
        metadata=next(action["metaData"] for action in actions if "metaData" in action),
    )


def _data_files(table: DeltaTable, partition_by: tuple[str, ...]) -> dict[str, DataFile]:
    columns = ["path", "size_bytes", "num_records", *(["partition"] if partition_by else [])]
    return {
        row["path"]: DataFile(
            size=int(row["size_bytes"]),
            partition=tuple(row["partition"][column] for column in partition_by) if partition_by else (),
            rows=int(row["num_records"] or 0),
        )
        for row in pa.table(table.get_add_actions()).select(columns).to_pylist()
    }


def _shape(fields: tuple[Field, ...]) -> list[tuple[str, str]]:
    return [(field.name, str(field.type)) for field in fields]


def _table_actions(current: DeltaTable | None, written: WrittenFiles, partition_by: tuple[str, ...]) -> tuple[Action, ...]:
    if current is None:
        return ({"protocol": written.protocol}, {"metaData": written.metadata})
    before = current.metadata()
    metadata = {
        **written.metadata,
        "id": str(before.id),
        "name": before.name,
        "description": before.description,
        "createdTime": before.created_time,
        "configuration": before.configuration,
        "partitionColumns": list(partition_by),
    }
    protocol = _widened_protocol(current, written.protocol)
    return (*([{"protocol": protocol}] if protocol else []), {"metaData": metadata})


def _widened_protocol(current: DeltaTable, needed: Action) -> Action | None:
    """The table's protocol with what the new columns need added; None when it has all of that."""
    before = current.protocol()
    reader, writer = (set(needed.get(key) or ()) for key in ("readerFeatures", "writerFeatures"))
    if reader <= set(before.reader_features or ()) and writer <= set(before.writer_features or ()):
        return None
    # A table that lists its features lists those too that its former version number stood for.
    former = set(before.writer_features or ()) or {"appendOnly", "invariants"}
    return {
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": sorted(reader | set(before.reader_features or ())),
        "writerFeatures": sorted(writer | former),
    }
