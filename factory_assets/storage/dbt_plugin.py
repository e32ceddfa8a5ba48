"""dbt-duckdb plugin: every Delta table of the lake is a view, and models of the `delta` materialization are written back.

DuckDB lives in memory and keeps nothing. When dbt connects, each table below the lake is pinned at its newest version
and becomes a plain view over that version's files, so that all models of one invocation read the same versions, and
sources need no `plugin:` key (loading them one by one races at more than one thread). A model is written through the
handle that was pinned; then its view shows the new version to the models downstream.

Profile:

    plugins:
      - module: factory_assets.storage.dbt_plugin
        alias: delta_lake            # the name that the `delta` materialization calls
        config:
          lake_uri: ../data/lake     # <lake_uri>/<schema>/<table>; relative to the dbt project
          storage_options: {}        # handed to delta-rs
"""

import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from dbt.adapters.duckdb.credentials import DuckDBCredentials
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.adapters.duckdb.utils import TargetConfig
from dbt.adapters.factory import get_adapter_by_type
from dbt.flags import get_flags
from dbt_common.exceptions import DbtRuntimeError
from dbt_common.invocation import get_invocation_id
from deltalake import CommitProperties, DeltaTable, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from factory_assets.storage.dbt_model_write import ModelWrite, checked_sql, refuse_changed_columns, refuse_types
from factory_assets.storage.snapshots import UnreadableTableError, open_table, select_sql
from factory_assets.storage.sql import SqlValue, equals_any, literal, quote_identifier

# Neither is typed by dbt.
_find_adapter: Callable[[str], Any] = get_adapter_by_type
_find_flags: Callable[[], Any] = get_flags

_NEW_ROWS = quote_identifier("__delta_new_rows")
# One row group is read by one thread, so a group of delta-rs' default million rows would be read by a single one.
_WRITER_PROPERTIES = WriterProperties(compression="ZSTD", compression_level=1, max_row_group_size=131_072)
_ROWS_PER_BATCH = 65_536


class Plugin(BasePlugin):
    """Delta tables in and out of dbt-duckdb. One instance lives as long as the DuckDB database behind it."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        """Read the profile's `config`; nothing is opened yet."""
        lake_uri = plugin_config.get("lake_uri")
        if not lake_uri:
            raise DbtRuntimeError(f"profiles.yml: plugin {self.name!r} needs config.lake_uri, the root of the lake")
        self._lake = lake_path(str(lake_uri))
        self._storage_options: dict[str, str] | None = plugin_config.get("storage_options") or None
        self._pinned: dict[tuple[str, str], DeltaTable] = {}
        self._invocation_id: str | None = None
        self._lock = threading.Lock()

    def update_connection_config(self, creds: DuckDBCredentials, config: dict[str, Any]) -> None:
        """Keep what DuckDB spills out of the project folder, apart from other processes."""
        config.setdefault("temp_directory", str(Path(tempfile.gettempdir()) / f"factory-duckdb-{os.getpid()}"))

    def configure_cursor(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Make the lake visible, once for each dbt invocation.

        dbt keeps a `:memory:` database between the invocations of one process, so that the second would read the
        versions that the first had pinned.
        """
        with self._lock:
            if self._invocation_id == get_invocation_id():
                return
            self._pinned.clear()
            _drop_everything(cursor)
            for schema, name, uri in list_tables(self._lake):
                table = open_table(uri, storage_options=self._storage_options)
                if table is not None:
                    self._show(cursor, schema, name, table)
            self._invocation_id = get_invocation_id()

    def store(self, target_config: TargetConfig) -> None:
        """Write one model. `version` and `rows` are put into the config's `result` for the materialization to report."""
        try:
            write = ModelWrite.from_target(target_config)
            cursor = _find_adapter("duckdb").connections.get_thread_connection().handle.cursor()
            current = self._pinned.get((write.schema, write.name))
            version_before = None if current is None else current.version()
            rows = cursor.sql(checked_sql(write))
            refuse_types(rows)
            if current is not None and write.is_incremental:
                refuse_changed_columns(cursor, current, rows)
                table = self._replace_some(cursor, write, current)
            else:
                table = self._replace_all(write, current, rows)
            self._show(cursor, write.schema, write.name, table)
        except CommitFailedError as error:
            raise DbtRuntimeError(
                "the table was changed by another writer after this run had read it, so nothing was written: "
                f"run the model again. ({_first_line(error)})"
            ) from error
        except duckdb.CatalogException as error:
            raise DbtRuntimeError(f"{error}\nThe lake is {self._lake}: were the sources ingested into it?") from error
        except (duckdb.Error, DeltaError, pa.ArrowException) as error:
            raise DbtRuntimeError(str(error)) from error
        result = target_config.config["result"]
        result["version"] = table.version()
        result["rows"] = 0 if table.version() == version_before else _rows_written(table)

    def _replace_all(self, write: ModelWrite, current: DeltaTable | None, rows: Any) -> DeltaTable:
        uri = table_uri(self._lake, write.schema, write.name)
        with rows.to_arrow_reader(_ROWS_PER_BATCH) as reader:
            if current is not None:
                _overwrite(current, reader, write, schema_mode="overwrite", partition_by=list(write.partition_by))
                return current
            write_deltalake(
                uri,
                reader,
                mode="error",
                partition_by=list(write.partition_by),
                storage_options=self._storage_options,
                writer_properties=_WRITER_PROPERTIES,
                commit_properties=_commit_properties(write),
            )
        # Our own first commit by its number: whatever came after is not what this run wrote.
        created = open_table(uri, version=0, storage_options=self._storage_options)
        assert created is not None, uri
        return created

    def _replace_some(self, cursor: duckdb.DuckDBPyConnection, write: ModelWrite, current: DeltaTable) -> DeltaTable:
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

    def _show(self, cursor: duckdb.DuckDBPyConnection, schema: str, name: str, table: DeltaTable) -> None:
        """Pin `table` and let its view show that version."""
        self._pinned[schema, name] = table
        view = f"{quote_identifier(schema)}.{quote_identifier(name)}"
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {quote_identifier(schema)}")
        try:
            cursor.execute(f"CREATE OR REPLACE VIEW {view} AS {select_sql(table)}")
        except (UnreadableTableError, TypeError, duckdb.Error) as error:
            # One table that cannot be read must not stop the models that never ask for it.
            cursor.execute(f"CREATE OR REPLACE VIEW {view} AS {_failing_select(table, str(error))}")


def lake_path(lake_uri: str) -> Path:
    """Return the lake's root folder; a relative one counts from the dbt project.

    Raises:
        DbtRuntimeError: The lake is in an object store.
    """
    uri = lake_uri.removeprefix("file://")
    if "://" in uri:
        raise DbtRuntimeError(f"lake_uri {lake_uri!r}: models are read from and written to local folders only")
    return Path(getattr(_find_flags(), "PROJECT_DIR", None) or ".", uri).resolve()


def list_tables(lake: Path) -> list[tuple[str, str, str]]:
    """Return (schema, table, address) of every Delta table below `lake`; none where there is no lake yet."""
    logs = sorted(lake.glob("*/*/_delta_log"))
    return [(log.parent.parent.name, log.parent.name, str(log.parent)) for log in logs]


def table_uri(lake: Path, schema: str, name: str) -> str:
    """Return the address of one table of the lake."""
    return str(lake / schema / name)


def _drop_everything(cursor: duckdb.DuckDBPyConnection) -> None:
    views = "SELECT 'VIEW', schema_name, view_name FROM duckdb_views() WHERE NOT internal AND NOT temporary"
    tables = "SELECT 'TABLE', schema_name, table_name FROM duckdb_tables() WHERE NOT internal AND NOT temporary"
    for kind, schema, name in cursor.execute(f"{views} UNION ALL {tables}").fetchall():
        cursor.execute(f"DROP {kind} IF EXISTS {quote_identifier(schema)}.{quote_identifier(name)} CASCADE")


def _failing_select(table: DeltaTable, message: str) -> str:
    columns = (f"CAST(error({literal(message)}) AS VARCHAR) AS {quote_identifier(f.name)}" for f in table.schema().fields)
    return f"SELECT {', '.join(columns)}"


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
    return CommitProperties(custom_metadata={"dbt_node": write.node, "dbt_invocation_id": get_invocation_id()})


def _rows_written(table: DeltaTable) -> int:
    metrics = table.history(1)[0].get("operationMetrics", {})
    merged = metrics.get("num_target_rows_inserted", 0) + metrics.get("num_target_rows_updated", 0)
    return int(metrics.get("num_added_rows", merged))


def _count(cursor: duckdb.DuckDBPyConnection, name: str) -> int:
    return int(cursor.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0])


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
