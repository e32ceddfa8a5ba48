"""The lake: pinned reads and safe writes of Delta tables. Knows Delta and DuckDB, nothing of what the tables mean."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from factory_assets.storage.delta.lake_files import LakeFiles, open_files
from factory_assets.storage.delta.object_stores import register_store, storage_options
from factory_assets.storage.delta.snapshots import open_table, refuse_unreadable, select_sql
from factory_assets.storage.engine import connect, connect_apart
from factory_assets.storage.sql import quote_identifier

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset

# A conflict is somebody else's commit between our read and our write: reading again and trying again is always right.
retry_on_conflict = retry(
    retry=retry_if_exception_type(CommitFailedError),
    stop=stop_after_attempt(8),
    wait=wait_random_exponential(multiplier=0.05, max=2),
    reraise=True,
)

# delta-rs drops log entries of more than 30 days at a checkpoint, unless a table says no; a version goes with them.
LOG_CLEANUP = "delta.enableExpiredLogCleanup"
# Given when a table is made: delta-rs 1.6 cannot add a property later without adding a feature too.
TABLE_PROPERTIES: Mapping[str, str] = {LOG_CLEANUP: "false"}
# A table is opened by its newest checkpoint and the commits since: 20 take 6 ms, and the 100 of the default 25 ms.
_CHECKPOINTS: Mapping[str, str] = {"delta.checkpointInterval": "20"}
# The factory clock's time of a commit, noted beside it: in a replay it is not the time of the commit itself.
FACTORY_TIME = "factory.at_utc"
UTC_TIMESTAMP = pa.timestamp("us", tz="UTC")
# Which versions of dbt's tables belong together; written by `publishes` alone.
PUBLISHES = "ops/publishes"


class TableMissingError(LookupError):
    """A table that should be there has never been written."""


@dataclass(frozen=True)
class TableSpec:
    """What the one owner of a table knows of it. `name` is '<schema>/<table>'; rows of equal `keys` replace each other."""

    name: str
    schema: pa.Schema
    keys: tuple[str, ...]
    partition_by: tuple[str, ...] = ()
    sort_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class PinnedTable:
    """One version of one table. Reading it twice gives the same rows whatever is written meanwhile."""

    name: str
    handle: DeltaTable

    @property
    def version(self) -> int:
        """The Delta version, 0 for the first."""
        return int(self.handle.version())

    @cached_property
    def sql(self) -> str:
        """A DuckDB SELECT over exactly this version's rows."""
        return select_sql(self.handle)

    def read(self, columns: Sequence[str], where: pc.Expression) -> pa.Table:
        """The rows of a filter by Arrow's own reader, in the order of the files: large columns take DuckDB twice as long."""
        found: pa.Table = self.dataset().to_table(list(columns), where)
        return found

    def dataset(self) -> "Dataset":
        """Exactly this version's rows for Arrow."""
        refuse_unreadable(self.handle)
        return self.handle.to_pyarrow_dataset()

    @property
    def columns(self) -> list[str]:
        """Column names in table order."""
        return [schema_field.name for schema_field in self.handle.schema().fields]

    @property
    def row_count(self) -> int:
        """Rows by the commit log's own statistics; reads no data."""
        counts = pa.table(self.handle.get_add_actions(flatten=True)).column("num_records")
        return int(pa.compute.sum(counts).as_py() or 0)


@dataclass(frozen=True)
class Lake:
    """All Delta tables below one root: a local folder, or the address of one in an object store."""

    root: str

    @property
    def storage_options(self) -> dict[str, str] | None:
        """What delta-rs needs to reach the root, from this process's environment; kept nowhere."""
        return storage_options(self.root) or None

    @property
    def files(self) -> LakeFiles:
        """The files that the tables are made of."""
        return open_files(self.root)

    def connect(self) -> duckdb.DuckDBPyConnection:
        """As `engine.connect`, able to read the lake's files."""
        return self._able_to_read(connect())

    def _able_to_read(self, connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
        register_store(connection, self.root)
        return connection

    def uri(self, name: str) -> str:
        """Where the table '<schema>/<table>' lies."""
        return f"{self.root.rstrip('/')}/{name}"

    def find(self, name: str, version: int | None = None) -> PinnedTable | None:
        """Pins a table at `version`, or at its newest; None when it has never been written."""
        handle = open_table(self.uri(name), version, self.storage_options)
        return None if handle is None else PinnedTable(name, handle)

    def pin(self, name: str, version: int | None = None) -> PinnedTable:
        """As `find`, for a table that must be there.

        Raises:
            TableMissingError: naming the table and where it was looked for.
        """
        pinned = self.find(name, version)
        if pinned is None:
            raise TableMissingError(f"Delta table {name!r} does not exist at {self.uri(name)}: materialize its asset first")
        return pinned

    def pin_published(self, *names: str) -> tuple[PinnedTable, ...]:
        """Pins tables that dbt makes at versions that belong together: those of the last completed run that built each.

        A table that no completed run has built is pinned at its newest. All versions come from one read, so a publish in
        between cannot mix two runs.

        Raises:
            TableMissingError: naming the table and where it was looked for.
        """
        published = self.find(PUBLISHES)
        versions: dict[str, int] = {}
        if published is not None:
            rows = self.query("select table_name, version from t where version is not null", t=published).to_pylist()
            versions = {row["table_name"]: row["version"] for row in rows}
        return tuple(self.pin(name, versions.get(name)) for name in names)

    def read_note(self, table: PinnedTable) -> dict[str, str]:
        """What the writer of this version noted beside the commit.

        The history is asked of an unpinned handle: a pinned one lists the newest commits under its own version numbers.
        """
        history = self.pin(table.name).handle.history()
        commit = next(commit for commit in history if commit["version"] == table.version)
        return {key: value for key, value in commit.items() if isinstance(value, str)}

    def query(self, sql: str, parameters: Sequence[Any] = (), **tables: PinnedTable | pa.Table | None) -> pa.Table:
        """Runs DuckDB SQL over pinned tables (or Arrow tables), each under its keyword as view name.

        Timestamps come back in UTC. `parameters` are bound to `?`, never pasted.
        """
        with self.connect() as connection:
            return _run(connection, sql, parameters, tables)

    def query_large(self, sql: str, parameters: Sequence[Any] = (), **tables: PinnedTable | pa.Table | None) -> pa.Table:
        """As `query`, in a database of its own: what sorting the rows took is the system's again when they are here.

        The shared database keeps it for the next query (of 2 million rows, 0.5 GB).
        """
        with self._able_to_read(connect_apart()) as connection:
            return _run(connection, sql, parameters, tables)

    def rows(self, spec: TableSpec, where: str = "true", parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Rows of a small table as dicts, in key order; none when the table has never been written."""
        pinned = self.find(spec.name)
        if pinned is None:
            return []
        order = ", ".join(map(quote_identifier, spec.sort_by or spec.keys))
        found: list[dict[str, Any]] = self.query(
            f"select * from t where {where} order by {order}", parameters, t=pinned
        ).to_pylist()
        return found

    def replace(
        self, spec: TableSpec, rows: pa.Table, predicate: str | None = None, note: Mapping[str, str] | None = None
    ) -> int:
        """Replaces the rows that `predicate` selects (all, without one) by `rows`; returns the new version.

        Idempotent: what is replaced does not depend on what was read, so a conflict is simply tried again. `note` is kept
        with the commit, see `read_note`. A table that is older than one of its columns gets it; rows that stay lack it.
        """
        data = _conform(spec, rows)
        properties = CommitProperties(custom_metadata=dict(note or {}))

        def write(handle: DeltaTable | None) -> None:
            if handle is None:
                self._create(spec, data, properties)
            else:
                mode: Literal["merge", "overwrite"] = "merge" if predicate else "overwrite"
                write_deltalake(
                    handle, data, mode="overwrite", predicate=predicate, schema_mode=mode, commit_properties=properties
                )

        return self._commit(spec, write)

    def replace_in_order(
        self, spec: TableSpec, batches: Callable[[], Iterator[pa.RecordBatch]], predicate: str | None = None
    ) -> int:
        """As `replace`, of rows that come in batches, in the table's order and with its columns, and need not fit memory.

        Args:
            spec: the table.
            batches: gives the rows from the start each time it is called: a conflict makes it be called again.
            predicate: selects what is replaced.
        """

        def write(handle: DeltaTable | None) -> None:
            if handle is None:
                self._create(spec, spec.schema.empty_table())
                handle = self.pin(spec.name).handle
            rows = pa.RecordBatchReader.from_batches(spec.schema, batches())
            write_deltalake(handle, rows, mode="overwrite", predicate=predicate)

        return self._commit(spec, write)

    def rewrite(self, spec: TableSpec, change: Callable[[pa.Table], pa.Table]) -> int:
        """Writes all rows again as `change` gives them, some at a time, which need not have the columns that they had."""

        def write(handle: DeltaTable | None) -> None:
            if handle is None:
                return
            found = PinnedTable(spec.name, handle).dataset().to_batches()
            changed = (change(pa.Table.from_batches([batch])).cast(spec.schema) for batch in found)
            rows = pa.RecordBatchReader.from_batches(spec.schema, (batch for some in changed for batch in some.to_batches()))
            partitions = list(spec.partition_by) or None
            write_deltalake(handle, rows, mode="overwrite", schema_mode="overwrite", partition_by=partitions)

        return self._commit(spec, write)

    def upsert(self, spec: TableSpec, rows: pa.Table) -> int:
        """Inserts `rows`, replacing those of equal keys; returns the new version."""
        data = _conform(spec, rows)
        predicate = " and ".join(f"target.{quote_identifier(k)} = source.{quote_identifier(k)}" for k in spec.keys)

        def write(handle: DeltaTable | None) -> None:
            if handle is None:
                self._create(spec, data)
                return
            merge = handle.merge(data, predicate=predicate, source_alias="source", target_alias="target")
            merge.when_matched_update_all().when_not_matched_insert_all().execute()

        return self._commit(spec, write)

    def append(self, spec: TableSpec, rows: pa.Table) -> None:
        """Appends `rows` as they are: for records of which each is written once, by whoever made it."""
        data = _conform(spec, rows)

        def write(handle: DeltaTable | None) -> None:
            if handle is None:
                self._create(spec, data)
            else:
                write_deltalake(handle, data, mode="append")

        self._commit(spec, write)

    def append_once(self, spec: TableSpec, rows: pa.Table, application: str, sequence: int) -> bool:
        """Appends `rows` as number `sequence` of `application`; False when that number, or a later one, is taken.

        A plain append from a stale snapshot commits without a word; the transaction number makes this compare-and-set.
        """
        data = _conform(spec, rows)
        handle = open_table(self.uri(spec.name), None, self.storage_options)
        if handle is None:
            self._commit(spec, lambda missing: self._create(spec, data.slice(0, 0)) if missing is None else None)
            handle = self.pin(spec.name).handle
        taken = handle.transaction_version(application)
        if taken is not None and taken >= sequence:
            return False
        mark = CommitProperties(app_transactions=[Transaction(application, sequence)])
        try:
            write_deltalake(handle, data, mode="append", commit_properties=mark)
        except CommitFailedError:
            return False
        return True

    @retry_on_conflict
    def _commit(self, spec: TableSpec, write: Callable[[DeltaTable | None], None]) -> int:
        handle = open_table(self.uri(spec.name), None, self.storage_options)
        write(handle)
        # The handle follows what was written through it; to open the table again reads its whole log.
        return self.pin(spec.name).version if handle is None else int(handle.version())

    def _create(self, spec: TableSpec, data: pa.Table, properties: CommitProperties | None = None) -> None:
        try:
            write_deltalake(
                self.uri(spec.name),
                data,
                mode="error",
                commit_properties=properties,
                configuration={**TABLE_PROPERTIES, **_CHECKPOINTS},
                partition_by=list(spec.partition_by) or None,
                storage_options=self.storage_options,
            )
        except DeltaError as error:
            if "already exists" not in str(error):
                raise
            # Somebody else made the table since we looked: a conflict like any other, though delta-rs gives it no type.
            raise CommitFailedError(str(error)) from error


def _run(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    parameters: Sequence[Any],
    tables: Mapping[str, PinnedTable | pa.Table | None],
) -> pa.Table:
    for alias, table in tables.items():
        if isinstance(table, PinnedTable):
            connection.execute(f"create temp view {quote_identifier(alias)} as {table.sql}")
        elif table is not None:
            connection.register(alias, table)
    return connection.sql(sql, params=list(parameters)).to_arrow_table()


def _conform(spec: TableSpec, rows: pa.Table) -> pa.Table:
    data = rows.select(spec.schema.names).cast(spec.schema)
    order = spec.sort_by or spec.keys
    return data.sort_by([(column, "ascending") for column in order]) if order else data
