"""What a query means, apart from how it is written: fingerprints of its rows and of each column, and what they read.

Layout, comments, case, aliases, names and order of CTEs, brackets and the order of conditions change no fingerprint.
Everything else does; what this module does not understand counts as it stands, so that a doubt shows as a change.

A query has rows and columns. The fingerprint of the rows covers sources, joins, filters, grouping and limits: when it
changes, every column is affected. That of a column covers its expression, with each name replaced by what it stands for.
A left join that can match one row at most (ASOF, or equality on a unique key of the right side) keeps the rows as they
are: it belongs to the columns that read from it, and an edit of it touches no other.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from factory_assets.core.transformations.query_meaning.binding import Binder
from factory_assets.core.transformations.query_meaning.relations import ANY_COLUMN, NOTHING, ROWS, Inputs, Relation


class SqlNotUnderstoodError(ValueError):
    """A query that cannot be parsed; the message is the parser's, with the place."""


@dataclass(frozen=True)
class KnownTable:
    """What is known of a table that a query reads: its columns (None: unknown) and column sets that are unique."""

    columns: tuple[str, ...] | None = None
    unique: tuple[frozenset[str], ...] = ()


@dataclass(frozen=True)
class ColumnMeaning:
    """One output column: its fingerprint, the source columns its values come from, and those that choose its row."""

    fingerprint: str
    values_from: Inputs = NOTHING
    rows_from: Inputs = NOTHING


@dataclass(frozen=True)
class QueryMeaning:
    """The meaning of a whole query. Inputs are (table, column); the column "" stands for a table's rows."""

    rows: str
    rows_from: Inputs
    columns: Mapping[str, ColumnMeaning] = field(default_factory=dict)
    # Not all output columns could be named: some come from a star over a table whose columns are unknown.
    is_open: bool = False

    @property
    def fingerprint(self) -> str:
        """One hash of everything, of 16 hexadecimal digits."""
        parts = [self.rows, *(f"{name}={column.fingerprint}" for name, column in self.columns.items()), str(self.is_open)]
        return short_hash("\n".join(parts))


def read_meaning(sql: str, tables: Mapping[str, KnownTable]) -> QueryMeaning:
    r"""Parses DuckDB SQL and says what it means. `tables` are by their name in SQL, as `marts.fct_flight`, in lower case.

    Raises:
        SqlNotUnderstoodError: when the parser cannot read it.

    >>> plain = read_meaning("select a+1 as b from s.t where a > 0", {})
    >>> plain == read_meaning("WITH x AS (FROM s.t -- all\n WHERE (A > 0)) SELECT x.a + 1 AS b FROM x", {})
    True
    >>> plain.rows == read_meaning("select a+2 as b from s.t where a > 0", {}).rows
    True
    """
    try:
        statements = [statement for statement in sqlglot.parse(sql, read="duckdb") if statement is not None]
    except SqlglotError as error:
        raise SqlNotUnderstoodError(str(error)) from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise SqlNotUnderstoodError("expected one SELECT")
    known = {name: (table.columns, table.unique) for name, table in tables.items()}
    relation = Binder(known).bind(statements[0], is_outermost=True)
    return _publish(relation)


def meaning_of_text(text: str, reads: Iterable[str]) -> QueryMeaning:
    """The meaning of something that is not taken apart: any edit affects everything, and so does any change of `reads`."""
    inputs = frozenset((table, part) for table in reads for part in (ROWS, ANY_COLUMN))
    return QueryMeaning(short_hash(" ".join(text.split())), inputs, is_open=True)


def short_hash(text: str) -> str:
    """The first 16 hexadecimal digits of the SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _publish(relation: Relation) -> QueryMeaning:
    columns = {
        name: ColumnMeaning(short_hash(column.says), column.values_from, column.rows_from)
        for name, column in relation.columns.items()
    }
    return QueryMeaning(short_hash(relation.rows), relation.rows_from, columns, relation.is_open)
