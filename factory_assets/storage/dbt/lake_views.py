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

from factory_assets.storage.dbt.pins import read_as_of, read_pins
from factory_assets.storage.dbt.sandboxes import find_sandbox
from factory_assets.storage.dbt.time_travel import Pins, TimeTravelError
from factory_assets.storage.delta.lake import Lake, PinnedTable
from factory_assets.storage.delta.object_stores import parse_place, register_store
from factory_assets.storage.delta.snapshots import FileSet, UnreadableTableError, duckdb_type, select_files_sql, select_sql
from factory_assets.storage.sql import literal, quote_identifier

OWN_SCHEMA = "__lake"
# Not typed by dbt.
_find_flags: Callable[[], Any] = get_flags


@dataclass
class LakeViews:
    """What one DuckDB database shows: which tables, each at which version.

    With a `sandbox`, tables that were built in it hide production's of the same name, and nothing else is written to.
    """

    production: Lake
    sandbox: str | None = None
    _pinned: dict[tuple[str, str], DeltaTable] = field(default_factory=dict)
    _pins: Pins = field(default_factory=Pins)
    _invocation_id: str | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def lake(self) -> Lake:
        """The lake that this invocation writes to: production, or the sandbox."""
        if self.sandbox is None:
            return self.production
        return find_sandbox(self.production, self.sandbox, read_as_of())

    def show_lake(
        self,
        cursor: duckdb.DuckDBPyConnection,
        read_publishes: Callable[[Lake], tuple[Mapping[str, int], Mapping[str, FileSet]]] = lambda _: ({}, {}),
    ) -> bool:
        """Make the lake visible, once for each dbt invocation; True when this call did.

        `read_publishes` gives the versions of a lake's tables (by '<schema>/<table>') that belong together, and further
        views.

        dbt keeps a `:memory:` database between the invocations of one process, so that the second would read the
        versions that the first had pinned.
        """
        with self._lock:
            if self._invocation_id == get_invocation_id():
                return False
            self._pinned.clear()
            _drop_everything(cursor)
            own, self._pins = self.lake, read_pins()
            register_store(cursor, own.root)
            if own != self.production:
                self._show_production(cursor, read_publishes(self.production)[0])
            self._show_own(cursor, own, *read_publishes(own))
            self._invocation_id = get_invocation_id()
            return True

    def _show_production(self, cursor: duckdb.DuckDBPyConnection, versions: Mapping[str, int]) -> None:
        for name in self.production.files.table_names():
            table = self.production.find(name)
            if table is not None:
                self._show_pinned(cursor, table, versions.get(name))

    def _show_own(
        self,
        cursor: duckdb.DuckDBPyConnection,
        own: Lake,
        versions: Mapping[str, int],
        held: Mapping[str, FileSet],
    ) -> None:
        names = own.files.table_names()
        for name in names:
            table = own.find(name)
            if table is None:
                continue
            self._pinned[_parts(name)] = table.handle
            if own == self.production:
                self._show_pinned(cursor, table, versions.get(name))
            else:
                self.show(cursor, *_parts(name), _at(own, table, versions.get(name)))
        for view, files in held.items():
            self.show_files(cursor, *_parts(view), files)
        _list_own_tables(cursor, names)

    def _show_pinned(self, cursor: duckdb.DuckDBPyConnection, newest: PinnedTable, published: int | None) -> None:
        """Show one of production's tables: at its pin, or as the last completed run left it."""
        place = _parts(newest.name)
        try:
            pinned = self._pins.find(self.production, newest)
        except TimeTravelError as error:
            self._show_select(cursor, *place, _failing_select(newest.handle.schema().fields, str(error)))
            return
        self.show(cursor, *place, pinned.handle if pinned else _at(self.production, newest, published))

    def refuse_the_past(self, schema: str, name: str) -> None:
        """Refuse to write a table where what it is made from is not what is there now.

        Raises:
            DbtRuntimeError: The invocation reads the past outside a sandbox, or the table itself is pinned.
        """
        if f"{schema}/{name}" in self._pins.tables:
            raise DbtRuntimeError(f"{schema}/{name} is pinned to a version, so it is not built: exclude it, or drop its pin")
        if self.sandbox is None and (self._pins.as_of or self._pins.is_invocations):
            raise DbtRuntimeError(
                "the vars as_of and pins read the past, and what is built from it must not replace what is there now: "
                "build it in a sandbox, with --target dev"
            )

    def pinned(self, schema: str, name: str) -> DeltaTable | None:
        """The newest version of a table when this invocation began; None when there was none."""
        return self._pinned.get((schema, name))

    def show(self, cursor: duckdb.DuckDBPyConnection, schema: str, name: str, table: DeltaTable) -> None:
        """Let the table's view show this version."""
        try:
            self._show_select(cursor, schema, name, select_sql(table))
        except (UnreadableTableError, TypeError, duckdb.Error) as error:
            # One table that cannot be read must not stop the models that never ask for it.
            self._show_select(cursor, schema, name, _failing_select(table.schema().fields, str(error)))

    def show_files(self, cursor: duckdb.DuckDBPyConnection, schema: str, name: str, files: FileSet) -> None:
        """Let a view show a state that no log names yet."""
        try:
            self._show_select(cursor, schema, name, select_files_sql(files))
        except (TypeError, duckdb.Error) as error:
            self._show_select(cursor, schema, name, _failing_select(files.fields, str(error)))

    def _show_select(self, cursor: duckdb.DuckDBPyConnection, schema: str, name: str, select: str) -> None:
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {quote_identifier(schema)}")
        cursor.execute(f"CREATE OR REPLACE VIEW {quote_identifier(schema)}.{quote_identifier(name)} AS {select}")


def _at(lake: Lake, table: PinnedTable, version: int | None) -> DeltaTable:
    if version is None or version >= table.version:
        return table.handle
    return lake.pin(table.name, version).handle


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


def _parts(name: str) -> tuple[str, str]:
    schema, _, table = name.partition("/")
    return schema, table


def _list_own_tables(cursor: duckdb.DuckDBPyConnection, names: Iterable[str]) -> None:
    """Tell the macros which tables are there to be added to: in a sandbox, production's are not."""
    rows = "".join(f" UNION ALL SELECT {literal(schema)}, {literal(table)}" for schema, table in map(_parts, names))
    cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {OWN_SCHEMA}")
    cursor.execute(
        f"CREATE OR REPLACE VIEW {OWN_SCHEMA}.own_tables AS SELECT '' AS table_schema, '' AS table_name WHERE FALSE{rows}"
    )


def _drop_everything(cursor: duckdb.DuckDBPyConnection) -> None:
    views = "SELECT 'VIEW', schema_name, view_name FROM duckdb_views() WHERE NOT internal AND NOT temporary"
    tables = "SELECT 'TABLE', schema_name, table_name FROM duckdb_tables() WHERE NOT internal AND NOT temporary"
    for kind, schema, name in cursor.execute(f"{views} UNION ALL {tables}").fetchall():
        cursor.execute(f"DROP {kind} IF EXISTS {quote_identifier(schema)}.{quote_identifier(name)} CASCADE")


def _failing_select(fields: Iterable[Field], message: str) -> str:
    # With the types that the columns have, so that a query which calculates with them gets as far as this message.
    columns = (f"CAST(error({literal(message)}) AS {_shown_type(f)}) AS {quote_identifier(f.name)}" for f in fields)
    return f"SELECT {', '.join(columns)}"


def _shown_type(field: Field) -> str:
    try:
        return duckdb_type(field)
    except TypeError:
        return "VARCHAR"
