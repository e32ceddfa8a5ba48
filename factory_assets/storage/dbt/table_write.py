"""The writing side of the dbt plugin: the rows of one model become the next state of its table, as a stage.

Every strategy comes down to the same two things, which a commit names: new files, and old files that go out. A row that
stays in an old file's place is written again only when another row of its file goes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import duckdb
from dbt_common.exceptions import DbtRuntimeError
from deltalake import DeltaTable

from factory_assets.storage.dbt.model_write import ModelWrite, checked_sql, refuse_types
from factory_assets.storage.dbt.schema_change import ColumnPlan, plan_columns
from factory_assets.storage.delta.snapshots import FILE_PATH_COLUMN, duckdb_type, select_files_sql
from factory_assets.storage.delta.table_stage import STAGES, Partition, Stage, WrittenFiles, change_stage, write_stage_files
from factory_assets.storage.sql import literal, quote_identifier

_NEW_ROWS = quote_identifier("__delta_new_rows")
_ROWS_PER_BATCH = 65_536


@dataclass(frozen=True)
class _Writing:
    """One model's write under way."""

    cursor: duckdb.DuckDBPyConnection
    write: ModelWrite
    stage: Stage
    current: DeltaTable | None
    plan: ColumnPlan

    @property
    def model_rows(self) -> str:
        return f"SELECT {self.plan.new_rows} FROM ({checked_sql(self.write)}) AS model_rows"

    def old_rows(self, paths: Iterable[str] | None = None) -> str:
        """The table's rows as the table is to have them; with `paths`, those of these files."""
        return f"SELECT {self.plan.old_rows} FROM ({select_files_sql(self.stage.state.file_set(paths))}) AS old_rows"

    def write_files(self, sql: str) -> WrittenFiles:
        folder = f"{STAGES}/{self.stage.stage_id}/{uuid4().hex[:8]}"
        with self.cursor.sql(sql).to_arrow_reader(_ROWS_PER_BATCH) as rows:
            properties = self.write.metadata.written_with(self.current)
            return write_stage_files(rows, self.stage.state.place, folder, self.write.partition_by, properties)

    def change(self, written: WrittenFiles, dropped: Iterable[str], rows: int) -> Stage:
        return change_stage(self.stage, self.current, written, dropped, self.write.partition_by, rows)


def stage_model(cursor: duckdb.DuckDBPyConnection, write: ModelWrite, stage: Stage, current: DeltaTable | None) -> Stage:
    """Writes the rows of one model into `stage` and returns it as it is then; the same stage where nothing changes.

    Raises:
        DbtRuntimeError: Types, columns or keys that the table cannot take.
    """
    rows = cursor.sql(checked_sql(write))
    refuse_types(rows)
    after = dict(zip(rows.columns, map(str, rows.types), strict=True))
    if not (write.is_incremental and stage.state.fields):
        writing = _Writing(cursor, write, stage, current, plan_columns(after, after, "fail"))
        written = writing.write_files(writing.model_rows)
        return writing.change(written, stage.state.files, written.rows)
    _refuse_other_partitions(write, stage)
    plan = plan_columns(_column_types(cursor, stage), after, write.on_schema_change)
    writing = _Writing(cursor, write, stage, current, plan)
    if write.strategy == "microbatch":
        return _replace_span(writing)
    if plan.rewrites or write.strategy in ("merge", "delete+insert"):
        return _replace_keys(writing)
    return _bring_in(writing)


def _bring_in(writing: _Writing) -> Stage:
    """Appends, or replaces whole partitions: which ones is known when the new files are written, and no row is read."""
    written = writing.write_files(writing.model_rows)
    state = writing.stage.state
    is_same_table = len(written.fields) == len(state.fields)
    if not written.files and is_same_table:
        return writing.stage
    dropped: list[str] = []
    if writing.write.strategy == "replace_partitions":
        touched = {_comparable(file.partition) for file in written.files.values()}
        dropped = [path for path, file in state.files.items() if _comparable(file.partition) in touched]
    return writing.change(written, dropped, written.rows)


def _replace_keys(writing: _Writing) -> Stage:
    """Replaces the rows whose key is among the new rows; nulls are equal. Without a key, adds to a table it rewrites."""
    cursor, write = writing.cursor, writing.write
    keys = write.partition_by if write.strategy == "replace_partitions" else write.unique_key
    cursor.execute(f"CREATE OR REPLACE TEMP TABLE {_NEW_ROWS} AS {writing.model_rows}")
    try:
        rows = _count(cursor, _NEW_ROWS)
        if rows == 0 and not writing.plan.rewrites and len(writing.plan.types) == len(writing.stage.state.fields):
            return writing.stage
        if write.strategy == "merge":
            _refuse_repeated_keys(cursor, keys)
        matches = " AND ".join(f"(o.{name} IS NOT DISTINCT FROM n.{name})" for name in map(quote_identifier, keys))
        touched = list(writing.stage.state.files) if writing.plan.rewrites else _files_with(writing, keys, matches)
        kept = [f"SELECT * FROM ({writing.old_rows(touched)}) AS o"] if touched else []
        if keys and touched:
            kept[0] += f" WHERE NOT EXISTS (SELECT 1 FROM {_NEW_ROWS} AS n WHERE {matches})"
        written = writing.write_files(" UNION ALL ".join([*kept, f"SELECT * FROM {_NEW_ROWS}"]))
        return writing.change(written, touched, rows)
    finally:
        cursor.execute(f"DROP TABLE IF EXISTS {_NEW_ROWS}")


def _files_with(writing: _Writing, keys: Sequence[str], matches: str) -> list[str]:
    """The files in which a row of the same key lies; reads the key columns only."""
    old_rows = select_files_sql(writing.stage.state.file_set(), with_path=True)
    columns = ", ".join(map(quote_identifier, [*keys, FILE_PATH_COLUMN]))
    found = writing.cursor.execute(
        f"SELECT DISTINCT {FILE_PATH_COLUMN} FROM (SELECT {columns} FROM ({old_rows}) AS t) AS o "
        f"WHERE EXISTS (SELECT 1 FROM {_NEW_ROWS} AS n WHERE {matches})"
    ).fetchall()
    return _log_paths(writing, found)


def _replace_span(writing: _Writing) -> Stage:
    """Replaces the rows whose event time lies in the batch's span."""
    write = writing.write
    assert write.event_time is not None
    assert write.batch is not None
    if write.event_time not in writing.plan.types:
        raise DbtRuntimeError(
            f"event_time {write.event_time!r} is no column of the table, so no batch of it can be replaced"
        )
    kind = writing.plan.types[write.event_time]
    is_inside = _inside(write.event_time, kind, write.batch)
    if writing.plan.rewrites:
        touched = list(writing.stage.state.files)
    else:
        old_rows = select_files_sql(writing.stage.state.file_set(), with_path=True)
        query = f"SELECT DISTINCT {FILE_PATH_COLUMN} FROM ({old_rows}) AS t WHERE {is_inside}"
        touched = _log_paths(writing, writing.cursor.execute(query).fetchall())
    new_rows = f"SELECT * FROM ({writing.model_rows}) AS n WHERE {is_inside}"
    kept = [f"SELECT * FROM ({writing.old_rows(touched)}) AS o WHERE ({is_inside}) IS NOT TRUE"] if touched else []
    written = writing.write_files(" UNION ALL ".join([*kept, new_rows]))
    if not written.files and not touched and len(writing.plan.types) == len(writing.stage.state.fields):
        return writing.stage
    return writing.change(written, touched, written.rows)


def _inside(column: str, kind: str, span: tuple[Any, Any]) -> str:
    # dbt cuts batches in UTC: a time without zone, or a day, is meant as one of UTC.
    start, end = (f"CAST(timezone('UTC', CAST({literal(moment)} AS TIMESTAMPTZ)) AS TIMESTAMP)" for moment in span)
    name = quote_identifier(column)
    value = f"timezone('UTC', {name})" if kind == "TIMESTAMP WITH TIME ZONE" else f"CAST({name} AS TIMESTAMP)"
    return f"{value} >= {start} AND {value} < {end}"


def _log_paths(writing: _Writing, locations: list[tuple[Any, ...]]) -> list[str]:
    by_location = writing.stage.state.paths_by_location
    return sorted(by_location[location] for (location,) in locations)


def _column_types(cursor: duckdb.DuckDBPyConnection, stage: Stage) -> dict[str, str]:
    columns = (f"CAST(NULL AS {duckdb_type(field)}) AS {quote_identifier(field.name)}" for field in stage.state.fields)
    rows = cursor.sql(f"SELECT {', '.join(columns)}")
    return dict(zip(rows.columns, map(str, rows.types), strict=True))


def _refuse_other_partitions(write: ModelWrite, stage: Stage) -> None:
    if write.partition_by != stage.state.partition_by:
        raise DbtRuntimeError(
            f"partition_by is ({', '.join(write.partition_by)}), and the table is partitioned by "
            f"({', '.join(stage.state.partition_by)}): an incremental run cannot change that, so run it once with "
            "--full-refresh"
        )


def _refuse_repeated_keys(cursor: duckdb.DuckDBPyConnection, unique_key: Sequence[str]) -> None:
    keys = ", ".join(quote_identifier(column) for column in unique_key)
    repeated = cursor.execute(f"SELECT {keys} FROM {_NEW_ROWS} GROUP BY ALL HAVING count(*) > 1 LIMIT 1").fetchall()
    if repeated:
        raise DbtRuntimeError(
            f"the new rows hold unique_key ({', '.join(unique_key)}) = {repeated[0]} more than once: a merge could keep "
            "only one of them"
        )


def _comparable(partition: Partition) -> Partition:
    # nan is unequal to itself, and names one partition nevertheless.
    return tuple("nan" if isinstance(value, float) and value != value else value for value in partition)  # noqa: PLR0124


def _count(cursor: duckdb.DuckDBPyConnection, name: str) -> int:
    return int(cursor.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0])
