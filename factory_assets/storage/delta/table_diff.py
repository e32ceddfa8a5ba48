"""What the tables of changed models would hold, computed beside the published ones, and how the rows differ.

DuckDB computes the models in a database of its own in memory, over the published versions of everything that is not
affected; nothing is written to the lake. What does not fit into the memory limit goes to a temporary folder.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import duckdb

from factory_assets.contracts.impact import TableDiff
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.sql import literal, quote_identifier

_SAMPLES = 5
# Sums of doubles differ in their last digits from run to run, since threads add them up in another order.
_RELATIVE_TOLERANCE = 1e-9
_MATCHED = quote_identifier("__matched")


class DataDiffError(RuntimeError):
    """A model whose rows could not be computed; the message is DuckDB's."""


@dataclass(frozen=True)
class RebuiltModel:
    """A model to compute: its table as SQL names it, its query, and the column sets that are declared unique."""

    table: str
    sql: str
    unique: tuple[tuple[str, ...], ...] = ()


@dataclass
class Scratch:
    """A database of published tables (`published`) and of computed models (under their own names)."""

    lake: Lake
    connection: duckdb.DuckDBPyConnection
    versions: dict[str, int | None] = field(default_factory=dict)

    def show_published(self, tables: Sequence[str]) -> None:
        """Makes the newest version of each table visible, pinned; one that was never written stays away."""
        for table in tables:
            pinned = self.lake.find(table.replace(".", "/", 1))
            self.versions[table] = None if pinned is None else pinned.version
            if pinned is not None:
                for database in ("published", "memory"):
                    self._schema(database, table)
                    self.connection.execute(f"create view {database}.{_quoted(table)} as {pinned.sql}")

    def compute(self, model: RebuiltModel) -> None:
        """Puts the model's rows in the place of its published table.

        Raises:
            DataDiffError: naming the model.
        """
        self._schema("memory", model.table)
        try:
            if self.versions.get(model.table) is not None:
                self.connection.execute(f"drop view memory.{_quoted(model.table)}")
            self.connection.execute(f"create table memory.{_quoted(model.table)} as\n{model.sql}")
        except duckdb.Error as error:
            raise DataDiffError(f"{model.table}: {error}") from error

    def _schema(self, database: str, table: str) -> None:
        self.connection.execute(f"create schema if not exists {database}.{quote_identifier(table.partition('.')[0])}")


@contextmanager
def open_scratch(lake: Lake) -> Iterator[Scratch]:
    """An empty scratch database in memory; what it spills is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="factory-impact-") as folder:
        memory = os.environ.get("FACTORY_DUCKDB_MEMORY", "2GB")
        config: dict[str, Any] = {"temp_directory": folder, "memory_limit": memory, "preserve_insertion_order": "false"}
        with duckdb.connect(":memory:", config=config) as connection:
            connection.execute("set timezone = 'UTC'")
            connection.execute("attach ':memory:' as published")
            yield Scratch(lake, connection)


def diff_table(scratch: Scratch, model: RebuiltModel) -> TableDiff:
    """How the computed rows of a model differ from the published ones."""
    after = _columns(scratch, "memory", model.table)
    version = scratch.versions.get(model.table)
    if version is None:
        rows = _count(scratch, "memory", model.table)
        return TableDiff(model.table, (), None, 0, rows, rows, 0, 0, note="never published")
    before = _columns(scratch, "published", model.table)
    counts: dict[str, Any] = {
        "rows_before": _count(scratch, "published", model.table),
        "rows_after": _count(scratch, "memory", model.table),
    }
    key, note = _usable_key(scratch, model, before, after)
    if not key:
        return TableDiff(
            model.table, (), version, **counts, **_diff_as_wholes(scratch, model.table, before, after), note=note
        )
    return TableDiff(
        model.table, key, version, **counts, **_diff_by_key(scratch, model.table, key, before, after), note=note
    )


def _usable_key(
    scratch: Scratch, model: RebuiltModel, before: Mapping[str, str], after: Mapping[str, str]
) -> tuple[tuple[str, ...], str]:
    note = "no unique key is declared, so rows are compared as wholes: add a `unique` or `unique_combination` test"
    for key in model.unique:
        if not all(column in before and column in after for column in key):
            note = f"the key ({', '.join(key)}) is not on both sides, so rows are compared as wholes"
        elif any(_repeats(scratch, database, model.table, key) for database in ("published", "memory")):
            note = f"the declared key ({', '.join(key)}) is not unique, so rows are compared as wholes"
        else:
            return key, ""
    return (), note


def _diff_by_key(
    scratch: Scratch, table: str, key: Sequence[str], before: Mapping[str, str], after: Mapping[str, str]
) -> dict[str, Any]:
    both = [column for column in before if column in after and column not in key]
    differs = {column: _differs(column, before[column], after[column]) for column in both}
    any_differs = " or ".join(f"({expression})" for expression in differs.values()) or "false"
    on = " and ".join(f"b.{name} is not distinct from a.{name}" for name in map(quote_identifier, key))
    joined = (
        f"(select *, true as {_MATCHED} from published.{_quoted(table)}) as b "
        f"full join (select *, true as {_MATCHED} from memory.{_quoted(table)}) as a on {on}"
    )
    kinds = {"added": f"b.{_MATCHED} is null", "removed": f"a.{_MATCHED} is null"}
    kinds["changed"] = f"a.{_MATCHED} and b.{_MATCHED} and ({any_differs})"
    counted = [f"count(*) filter (where {condition})" for condition in kinds.values()]
    counted += [f"count(*) filter (where a.{_MATCHED} and b.{_MATCHED} and ({part}))" for part in differs.values()]
    numbers = _rows(scratch, f"select {', '.join(counted)} from {joined}")[0]
    added, removed, changed = numbers[:3]
    shown = ", ".join(f"coalesce(b.{name}, a.{name})" for name in map(quote_identifier, key))
    samples = {}
    for (kind, condition), number in zip(kinds.items(), (added, removed, changed), strict=True):
        if number:
            found = _rows(scratch, f"select {shown} from {joined} where {condition} order by all limit {_SAMPLES}")
            samples[kind] = tuple(", ".join(map(str, row)) for row in found)
    columns = {column: number for column, number in zip(both, numbers[3:], strict=True) if number}
    return {"added": added, "removed": removed, "changed": changed, "changed_columns": columns, "samples": samples}


def _diff_as_wholes(scratch: Scratch, table: str, before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, Any]:
    names = ", ".join(quote_identifier(column) for column in before if column in after)
    sides = {side: f"(select {names} from {side}.{_quoted(table)})" for side in ("published", "memory")}
    queries = (f"from {sides['memory']} except all from {sides['published']}",
               f"from {sides['published']} except all from {sides['memory']}")  # fmt: skip
    added, removed = (int(_rows(scratch, f"select count(*) from ({query})")[0][0]) for query in queries)
    return {"added": added, "removed": removed, "changed": 0}


def _differs(column: str, before: str, after: str) -> str:
    name = quote_identifier(column)
    if before != after and not {before, after} <= {"FLOAT", "DOUBLE"}:
        return f"cast(b.{name} as varchar) is distinct from cast(a.{name} as varchar)"
    if before in ("FLOAT", "DOUBLE"):
        near = f"abs(b.{name} - a.{name}) <= {_RELATIVE_TOLERANCE} * greatest(abs(b.{name}), abs(a.{name}))"
        return f"b.{name} is distinct from a.{name} and not coalesce({near}, false)"
    return f"b.{name} is distinct from a.{name}"


def _repeats(scratch: Scratch, database: str, table: str, key: Sequence[str]) -> bool:
    names = ", ".join(map(quote_identifier, key))
    query = f"select 1 from {database}.{_quoted(table)} group by {names} having count(*) > 1 limit 1"
    return bool(_rows(scratch, query))


def _columns(scratch: Scratch, database: str, table: str) -> dict[str, str]:
    schema, _, name = table.partition(".")
    query = (
        "select lower(column_name), data_type from duckdb_columns() where database_name = "
        f"{literal(database)} and lower(schema_name) = {literal(schema)} and lower(table_name) = {literal(name)} "
        "order by column_index"
    )
    return dict(_rows(scratch, query))


def _count(scratch: Scratch, database: str, table: str) -> int:
    return int(_rows(scratch, f"select count(*) from {database}.{_quoted(table)}")[0][0])


def _rows(scratch: Scratch, query: str) -> list[tuple[Any, ...]]:
    return scratch.connection.execute(query).fetchall()


def _quoted(table: str) -> str:
    return ".".join(quote_identifier(part) for part in table.split(".", 1))
