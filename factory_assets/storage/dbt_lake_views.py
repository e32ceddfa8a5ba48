"""The reading side of the dbt plugin: every Delta table below the lake is a view over one pinned version's files.

When dbt connects, each table is pinned, so that all models of one invocation read the same versions, and sources need no
`plugin:` key (loading them one by one races at more than one thread). Tables that dbt made are shown as the last completed
run left them, and others at their newest version. What a model then writes is based on the newest in any case.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
from dbt.flags import get_flags
from dbt_common.exceptions import DbtRuntimeError
from dbt_common.invocation import get_invocation_id
from deltalake import DeltaTable
from deltalake.schema import Field

from factory_assets.storage.delta import Lake, PinnedTable
from factory_assets.storage.object_stores import parse_place, register_store
from factory_assets.storage.snapshots import FileSet, UnreadableTableError, select_files_sql, select_sql
from factory_assets.storage.sql import literal, quote_identifier

# Not typed by dbt.
_find_flags: Callable[[], Any] = get_flags


@dataclass
class LakeViews:
    """What one DuckDB database shows of the lake: which tables, each at which version."""

    lake: Lake
    _pinned: dict[tuple[str, str], DeltaTable] = field(default_factory=dict)
    _invocation_id: str | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def show_lake(
        self,
        cursor: duckdb.DuckDBPyConnection,
        read_publishes: Callable[[], tuple[Mapping[str, int], Mapping[str, FileSet]]] = lambda: ({}, {}),
    ) -> bool:
        """Make the lake visible, once for each dbt invocation; True when this call did.

        `read_publishes` gives the versions of tables (by '<schema>/<table>') that belong together, and further views.

        dbt keeps a `:memory:` database between the invocations of one process, so that the second would read the
        versions that the first had pinned.
        """
        with self._lock:
            if self._invocation_id == get_invocation_id():
                return False
            self._pinned.clear()
            _drop_everything(cursor)
            register_store(cursor, self.lake.root)
            versions, held = read_publishes()
            for table_name in self.lake.files.table_names():
                table = self.lake.find(table_name)
                if table is not None:
                    schema, _, name = table_name.partition("/")
                    self.show(cursor, schema, name, self._at(table, versions.get(table_name)))
                    self._pinned[schema, name] = table.handle
            for view, files in held.items():
                schema, name = view.split("/")
                self.show_files(cursor, schema, name, files)
            self._invocation_id = get_invocation_id()
            return True

    def pinned(self, schema: str, name: str) -> DeltaTable | None:
        """The newest version of a table when this invocation began; None when there was none."""
        return self._pinned.get((schema, name))

    def show(self, cursor: duckdb.DuckDBPyConnection, schema: str, name: str, table: DeltaTable) -> None:
        """Let the table's view show this version."""
        view = f"{quote_identifier(schema)}.{quote_identifier(name)}"
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {quote_identifier(schema)}")
        try:
            cursor.execute(f"CREATE OR REPLACE VIEW {view} AS {select_sql(table)}")
        except (UnreadableTableError, TypeError, duckdb.Error) as error:
            # One table that cannot be read must not stop the models that never ask for it.
            cursor.execute(f"CREATE OR REPLACE VIEW {view} AS {_failing_select(table.schema().fields, str(error))}")

    def show_files(self, cursor: duckdb.DuckDBPyConnection, schema: str, name: str, files: FileSet) -> None:
        """Let a view show a state that no log names yet."""
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {quote_identifier(schema)}")
        view = f"{quote_identifier(schema)}.{quote_identifier(name)}"
        try:
            cursor.execute(f"CREATE OR REPLACE VIEW {view} AS {select_files_sql(files)}")
        except (TypeError, duckdb.Error) as error:
            cursor.execute(f"CREATE OR REPLACE VIEW {view} AS {_failing_select(files.fields, str(error))}")

    def _at(self, table: PinnedTable, version: int | None) -> DeltaTable:
        if version is None or version >= table.version:
            return table.handle
        return self.lake.pin(table.name, version).handle


def find_lake(lake_uri: str) -> Lake:
    """The lake at `lake_uri`; a relative path counts from the dbt project.

    Raises:
        DbtRuntimeError: The address is of no kind that is known.
    """
    try:
        place = parse_place(lake_uri)
    except ValueError as error:
        raise DbtRuntimeError(f"profiles.yml: lake_uri: {error}") from error
    if not place.is_local:
        return Lake(lake_uri.rstrip("/"))
    return Lake(str(Path(getattr(_find_flags(), "PROJECT_DIR", None) or ".", place.path).resolve()))


def _drop_everything(cursor: duckdb.DuckDBPyConnection) -> None:
    views = "SELECT 'VIEW', schema_name, view_name FROM duckdb_views() WHERE NOT internal AND NOT temporary"
    tables = "SELECT 'TABLE', schema_name, table_name FROM duckdb_tables() WHERE NOT internal AND NOT temporary"
    for kind, schema, name in cursor.execute(f"{views} UNION ALL {tables}").fetchall():
        cursor.execute(f"DROP {kind} IF EXISTS {quote_identifier(schema)}.{quote_identifier(name)} CASCADE")


def _failing_select(fields: Iterable[Field], message: str) -> str:
    columns = (f"CAST(error({literal(message)}) AS VARCHAR) AS {quote_identifier(f.name)}" for f in fields)
    return f"SELECT {', '.join(columns)}"
