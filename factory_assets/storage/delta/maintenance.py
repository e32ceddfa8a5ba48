"""Keeps Delta tables small and quick: compaction, checkpoints, and files that nobody needs any more.

Rows are never changed: what is written is the same rows in other files, and what is deleted belongs to no version that is
newest, within the retention, or named as needed. The log is kept whole, since a version whose log is gone cannot be read
however many of its files are left (delta-rs would drop log entries of more than 30 days at a checkpoint, by default).
"""

import json
import math
from collections import Counter
from collections.abc import Set
from datetime import timedelta

from deltalake import DeltaTable, WriterProperties
from deltalake.exceptions import CommitFailedError, DeltaError

from factory_assets.contracts.maintenance import MaintenanceSpec, TableCare
from factory_assets.storage.delta.lake import LOG_CLEANUP, Lake, retry_on_conflict
from factory_assets.storage.delta.snapshots import UnreadableTableError, refuse_unreadable

# One row group is read by one thread, so a group of delta-rs' default million rows would be read by a single one.
_WRITER_PROPERTIES = WriterProperties(compression="ZSTD", compression_level=1, max_row_group_size=131_072)
_BYTES_PER_MB = 1_000_000
# What a table says of its own layout, before the declaration for all of them; a dbt model writes both.
TARGET_FILE_SIZE = "delta.targetFileSize"
Z_ORDER = "factory.zOrder"
_OPTIMIZE, _VACUUM = "OPTIMIZE", "VACUUM"
_CHECKPOINT_AFTER_COMMITS = 10


class LogNotKeptError(Exception):
    """A version is needed whose log entry could be dropped."""


def maintain_table(
    lake: Lake, name: str, spec: MaintenanceSpec, needed: Set[int], keeps_unlogged: bool = False
) -> TableCare:
    """Compacts, checkpoints and vacuums one table; `needed` are its versions that must stay readable.

    `keeps_unlogged` spares files that no log has named yet, as those of a held stage.
    A writer that comes in between wins: the round looks again at what it wrote.
    """
    before = lake.pin(name)
    kept = tuple(sorted(version for version in needed | spec.kept_of(name) if version <= before.version))
    problem, freed = None, (0, 0)
    try:
        refuse_unreadable(before.handle)
        _put_in_order(lake, name, spec, kept)
        freed = _vacuum(lake, name, spec.retention, kept, keeps_unlogged)
    except CommitFailedError as error:
        problem = f"other writers came in between each time, so it is left to the next round ({_first_line(error)})"
    except (DeltaError, UnreadableTableError, LogNotKeptError) as error:
        problem = f"{_first_line(error)}; to leave the table alone, list it under `exclude`"
    after = lake.pin(name)
    return TableCare(
        table=name,
        rows=after.row_count,
        version_before=before.version,
        version_after=after.version,
        files_before=len(before.handle.file_uris()),
        files_after=len(after.handle.file_uris()),
        files_freed=freed[0],
        bytes_freed=freed[1],
        kept_versions=kept,
        problem=problem,
    )


@retry_on_conflict
def _put_in_order(lake: Lake, name: str, spec: MaintenanceSpec, kept: tuple[int, ...]) -> None:
    _keep_log(lake.pin(name).handle, kept)
    _put_together(lake.pin(name).handle, spec, name)
    _checkpoint(lake, name)


def _keep_log(handle: DeltaTable, kept: tuple[int, ...]) -> None:
    """Switches the dropping of old log entries off where a table was made without `TABLE_PROPERTIES`.

    Not on a table that lists its features: delta-rs 1.6 would add `variantType` to the list, which other readers refuse.
    """
    if handle.metadata().configuration.get(LOG_CLEANUP) == "false":
        return
    if handle.protocol().writer_features is None:
        handle.alter.set_table_properties({LOG_CLEANUP: "false"})
    elif kept:
        raise LogNotKeptError(
            f"versions {', '.join(map(str, kept))} are needed, and the table drops log entries after 30 days: set its "
            f"property {LOG_CLEANUP} to false, or make it anew"
        )


def _put_together(handle: DeltaTable, spec: MaintenanceSpec, name: str) -> None:
    """Compacts where many files lie. Rows that nothing was added to since they were last clustered are left alone."""
    own = handle.metadata().configuration
    z_order = tuple(json.loads(own[Z_ORDER])) if Z_ORDER in own else spec.z_order_of(name)
    if _most_files_of_a_partition(handle) < spec.compact_from and not (z_order and _has_changed(handle)):
        return
    size = int(own.get(TARGET_FILE_SIZE, spec.target_file_size_mb * _BYTES_PER_MB))
    if z_order:
        handle.optimize.z_order(z_order, target_size=size, writer_properties=_WRITER_PROPERTIES)
    else:
        handle.optimize.compact(target_size=size, writer_properties=_WRITER_PROPERTIES)


def _most_files_of_a_partition(handle: DeltaTable) -> int:
    folders = Counter(uri.rpartition("/")[0] for uri in handle.file_uris())
    return max(folders.values(), default=0)


def _has_changed(handle: DeltaTable) -> bool:
    """Tells whether rows were written since the last time that they were put together."""
    for commit in handle.history():
        operation = str(commit.get("operation", ""))
        if operation.startswith(_OPTIMIZE):
            return False
        if not operation.startswith((_VACUUM, "SET TBLPROPERTIES")):
            return True
    return True


def _checkpoint(lake: Lake, name: str) -> None:
    table = lake.pin(name)
    if table.version - (lake.files.last_checkpoint(name) or 0) >= _CHECKPOINT_AFTER_COMMITS:
        table.handle.create_checkpoint()


def _vacuum(lake: Lake, name: str, retention: timedelta, kept: tuple[int, ...], keeps_unlogged: bool) -> tuple[int, int]:
    """Deletes what no kept version needs; returns how many files, and bytes, that were."""
    handle = lake.pin(name).handle
    hours = math.ceil(retention / timedelta(hours=1))

    def run(dry_run: bool) -> list[str]:
        # In full: what a killed writer left behind is in no log. Each run that deletes is two commits, so none without need.
        return handle.vacuum(
            hours,
            dry_run=dry_run,
            enforce_retention_duration=False,
            full=not keeps_unlogged,
            keep_versions=list(kept) or None,
        )

    doomed = run(True)
    if not doomed:
        return 0, 0
    freed = lake.files.size_of(f"{name}/{path}" for path in doomed)
    run(False)
    return len(doomed), freed


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
