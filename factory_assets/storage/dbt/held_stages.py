"""Stages that were refused, for a look at their rows: `<schema>/held__<table>`, as it would have been published."""

from typing import Any
from urllib.parse import unquote

from deltalake.exceptions import DeltaError
from deltalake.schema import Schema

from factory_assets.storage.delta.lake import Lake, TableMissingError
from factory_assets.storage.delta.snapshots import FileSet, UnreadableTableError, read_file_set
from factory_assets.storage.delta.table_place import TablePlace
from factory_assets.storage.tables.publishes import Publishes, TableRecord, decode_commit

_PREFIX = "held__"


def read_held(publishes: Publishes) -> dict[str, FileSet]:
    """The files of each held stage, by the name that its view has. One whose files are gone is left out."""
    found = {}
    for record in publishes.held:
        schema, table = record.table_name.split("/")
        files = _read_files(publishes.lake, record)
        if files is not None:
            found[f"{schema}/{_PREFIX}{table}"] = files
    return found


def _read_files(lake: Lake, record: TableRecord) -> FileSet | None:
    assert record.held_commit is not None
    assert record.held_base_version is not None
    actions = decode_commit(record.held_commit)
    base: FileSet | None = None
    try:
        if record.held_base_version >= 0:
            base = read_file_set(lake.pin(record.table_name, record.held_base_version).handle)
    except (DeltaError, TableMissingError, UnreadableTableError):
        return None
    metadata: dict[str, Any] | None = next((action["metaData"] for action in actions if "metaData" in action), None)
    if metadata is None and base is None:
        return None
    removed = {f"/{unquote(action['remove']['path'])}" for action in actions if "remove" in action}
    added = {f"/{unquote(action['add']['path'])}" for action in actions if "add" in action}
    place = TablePlace(lake.uri(record.table_name))
    if not all(place.exists(path[1:]) for path in added):
        return None
    kept = set(base.paths) - removed if base is not None else set()
    if metadata is not None:
        fields = tuple(Schema.from_json(metadata["schemaString"]).fields)
        partition_columns = tuple(metadata["partitionColumns"])
    else:
        assert base is not None
        fields, partition_columns = base.fields, base.partition_columns
    is_complete = bool(added) or (base is not None and metadata is None and base.is_surely_complete)
    return FileSet(place.duckdb_root, fields, partition_columns, tuple(sorted(kept | added)), is_complete)
