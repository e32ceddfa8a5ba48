"""The writing side of the dbt plugin: the rows of one model become a new version of its Delta table."""

from collections.abc import Sequence
from typing import Any

import duckdb
import pyarrow as pa
from dbt_common.exceptions import DbtRuntimeError
from dbt_common.invocation import get_invocation_id
from deltalake import CommitProperties, DeltaTable, WriterProperties, write_deltalake

from factory_assets.storage.dbt_model_write import ModelWrite, checked_sql, refuse_changed_columns, refuse_types
from factory_assets.storage.delta import TABLE_PROPERTIES
from factory_assets.storage.snapshots import open_table
from factory_assets.storage.sql import SqlValue, equals_any, quote_identifier

_NEW_ROWS = quote_identifier("__delta_new_rows")
# One row group is read by one thread, so a group of delta-rs' default million rows would be read by a single one.
_WRITER_PROPERTIES = WriterProperties(compression="ZSTD", compression_level=1, max_row_group_size=131_072)
_ROWS_PER_BATCH = 65_536


def write_model(
    cursor: duckdb.DuckDBPyConnection,
    write: ModelWrite,
    current: DeltaTable | None,
    uri: str,
    storage_options: dict[str, str] | None,
) -> DeltaTable:
    """Write one model through the handle that its run had pinned, and return its table at the new version.

    Raises:
        CommitFailedError: Somebody else changed the table after `current` was pinned; nothing was written.
    """
    rows = cursor.sql(checked_sql(write))
    refuse_types(rows)
    if current is not None and write.is_incremental:
        refuse_changed_columns(cursor, current, rows)
        return _replace_some(cursor, write, current)
    return _replace_all(write, current, rows, uri, storage_options)


def rows_written(table: DeltaTable) -> int:
    """How many rows the newest commit of `table` inserted or updated."""
    metrics = table.history(1)[0].get("operationMetrics", {})
    merged = metrics.get("num_target_rows_inserted", 0) + metrics.get("num_target_rows_updated", 0)
    return int(metrics.get("num_added_rows", merged))


def _replace_all(
    write: ModelWrite, current: DeltaTable | None, rows: Any, uri: str, storage_options: dict[str, str] | None
) -> DeltaTable:
    with rows.to_arrow_reader(_ROWS_PER_BATCH) as reader:
        if current is not None:
            _overwrite(current, reader, write, schema_mode="overwrite", partition_by=list(write.partition_by))
            return current
        write_deltalake(
            uri,
            reader,
            mode="error",
            partition_by=list(write.partition_by),
            storage_options=storage_options,
            configuration=dict(TABLE_PROPERTIES),
            writer_properties=_WRITER_PROPERTIES,
            commit_properties=_commit_properties(write),
        )
    # Our own first commit by its number: whatever came after is not what this run wrote.
    created = open_table(uri, version=0, storage_options=storage_options)
    assert created is not None, uri
    return created


def _replace_some(cursor: duckdb.DuckDBPyConnection, write: ModelWrite, current: DeltaTable) -> DeltaTable:
    # What is replaced depends on the new rows, so they are all there before the first is written.
    columns = ", ".join(quote_identifier(field.name) for field in current.schema().fields)
    cursor.execute(f"CREATE OR REPLACE TEMP TABLE {_NEW_ROWS} AS SELECT {columns} FROM ({checked_sql(write)})")
    try:
        if _count(cursor, _NEW_ROWS) == 0:
            return current
        if write.strategy == "merge":
            _refuse_repeated_keys(cursor, write.unique_key)
            with cursor.sql(f"FROM {_NEW_ROWS}").to_arrow_reader(_ROWS_PER_BATCH) as new_rows:
                _merge(current, new_rows, write)
        else:
            # Asked before the rows are opened: DuckDB allows one open result on a connection.
            partitions = _partitions_of_new_rows(cursor, write.partition_by)
            with cursor.sql(f"FROM {_NEW_ROWS}").to_arrow_reader(_ROWS_PER_BATCH) as new_rows:
                _overwrite(current, new_rows, write, predicate=partitions)
        return current
    finally:
        cursor.execute(f"DROP TABLE IF EXISTS {_NEW_ROWS}")


def _refuse_repeated_keys(cursor: duckdb.DuckDBPyConnection, unique_key: Sequence[str]) -> None:
    keys = ", ".join(quote_identifier(column) for column in unique_key)
    repeated = cursor.execute(f"SELECT {keys} FROM {_NEW_ROWS} GROUP BY ALL HAVING count(*) > 1 LIMIT 1").fetchall()
    if repeated:
        raise DbtRuntimeError(
            f"the new rows hold unique_key ({', '.join(unique_key)}) = {repeated[0]} more than once: a merge could keep "
            "only one of them"
        )


def _partitions_of_new_rows(cursor: duckdb.DuckDBPyConnection, partition_by: Sequence[str]) -> str:
    """Return the predicate that holds for exactly the partitions which the new rows belong to."""
    columns = ", ".join(quote_identifier(column) for column in partition_by)
    query = f"SELECT DISTINCT {columns} FROM {_NEW_ROWS} ORDER BY ALL"
    found: list[tuple[SqlValue, ...]] = cursor.execute(query).fetchall()
    if len(partition_by) == 1:
        return equals_any(partition_by[0], (value for (value,) in found))
    partitions = (
        " AND ".join(equals_any(column, [value]) for column, value in zip(partition_by, values, strict=True))
        for values in found
    )
    return " OR ".join(f"({partition})" for partition in partitions)


def _overwrite(current: DeltaTable, new_rows: pa.RecordBatchReader, write: ModelWrite, **what: Any) -> None:
    write_deltalake(
        current,
        new_rows,
        mode="overwrite",
        writer_properties=_WRITER_PROPERTIES,
        commit_properties=_commit_properties(write),
        **what,
    )


def _merge(current: DeltaTable, new_rows: pa.RecordBatchReader, write: ModelWrite) -> None:
    # The brackets matter: delta-rs reads `a IS NOT DISTINCT FROM b AND c` as `a IS NOT DISTINCT FROM (b AND c)`.
    keys = (f"(target.{name} IS NOT DISTINCT FROM source.{name})" for name in map(quote_identifier, write.unique_key))
    current.merge(
        new_rows,
        predicate=" AND ".join(keys),
        source_alias="source",
        target_alias="target",
        writer_properties=_WRITER_PROPERTIES,
        commit_properties=_commit_properties(write),
    ).when_matched_update_all().when_not_matched_insert_all().execute()


def _commit_properties(write: ModelWrite) -> CommitProperties:
    own = {"dbt_node": write.node, "dbt_invocation_id": get_invocation_id()}
    return CommitProperties(custom_metadata={**own, **write.record})


def _count(cursor: duckdb.DuckDBPyConnection, name: str) -> int:
    return int(cursor.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0])
