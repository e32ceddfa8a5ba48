"""The reading side of the dbt plugin: every Delta table below the lake is a view over one pinned version's files.

When dbt connects, each table is pinned at its newest version, so that all models of one invocation read the same
versions, and sources need no `plugin:` key (loading them one by one races at more than one thread).
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
from dbt.flags import get_flags
from dbt_common.exceptions import DbtRuntimeError
from dbt_common.invocation import get_invocation_id
from deltalake import DeltaTable

from factory_assets.storage.snapshots import UnreadableTableError, open_table, select_sql
from factory_assets.storage.sql import literal, quote_identifier

# Not typed by dbt.
_find_flags: Callable[[], Any] = get_flags


@dataclass
class LakeViews:
    """What one DuckDB database shows of the lake: which tables, each at which version."""

    lake: Path
    storage_options: dict[str, str] | None = None
    _pinned: dict[tuple[str, str], DeltaTable] = field(default_factory=dict)
    _invocation_id: str | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def show_lake(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Make the lake visible, once for each dbt invocation.

        dbt keeps a `:memory:` database between the invocations of one process, so that the second would read the
        versions that the first had pinned.
        """
        with self._lock:
            if self._invocation_id == get_invocation_id():
                return
            self._pinned.clear()
            _drop_everything(cursor)
            for schema, name, uri in list_tables(self.lake):
                table = open_table(uri, storage_options=self.storage_options)
                if table is not None:
                    self.show(cursor, schema, name, table)
            self._invocation_id = get_invocation_id()

    def pinned(self, schema: str, name: str) -> DeltaTable | None:
        """The version of a table that this invocation reads; None when there was none."""
        return self._pinned.get((schema, name))

    def show(self, cursor: duckdb.DuckDBPyConnection, schema: str, name: str, table: DeltaTable) -> None:
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
