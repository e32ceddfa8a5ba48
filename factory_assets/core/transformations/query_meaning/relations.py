"""What a relation and a column are to the binder, and the names that are visible inside one SELECT."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Inputs = frozenset[tuple[str, str]]
NOTHING: Inputs = frozenset()
# Instead of a column's name: the rows of a table, and any column of it.
ROWS, ANY_COLUMN = "", "*"


@dataclass(frozen=True)
class Says:
    """A text and the columns it was made from. `rows_from` chose the row; `values_from` gave the value."""

    says: str
    values_from: Inputs = NOTHING
    rows_from: Inputs = NOTHING

    @property
    def all_from(self) -> Inputs:
        """Everything that it depends on."""
        return self.values_from | self.rows_from


@dataclass(frozen=True)
class Relation:
    """A query, table or CTE: what its rows are, and what its columns are. `rest` finds columns that have no list."""

    rows: str
    rows_from: Inputs
    columns: Mapping[str, Says]
    unique: tuple[frozenset[str], ...] = ()
    rest: Callable[[str], Says] | None = None

    @property
    def is_open(self) -> bool:
        """Whether there may be columns that `columns` does not list."""
        return self.rest is not None

    def find(self, name: str) -> Says | None:
        """A column by its name in lower case."""
        found = self.columns.get(name)
        return self.rest(name) if found is None and self.rest is not None else found


@dataclass
class Source:
    """One item of a FROM clause, with its place among those that can multiply rows."""

    alias: str
    relation: Relation
    position: int
    # One row at most of this source meets a row of the sources before it.
    is_single: bool = False
    # What to look that row up by, when a row without one is kept as well.
    lookup: Says | None = None

    def column(self, name: str, is_alone: bool) -> Says | None:
        """A column, marked by its source; the only source of a SELECT needs no mark, so a plain wrapper changes nothing."""
        found = self.relation.find(name)
        if found is None:
            return None
        if self.lookup is None:
            says = found.says if is_alone else f"({self.position} {digest(found.says)})"
            return Says(says, found.values_from, found.rows_from)
        rows_from = found.rows_from | self.lookup.all_from
        return Says(f"(lookup {digest(self.lookup.says)} {digest(found.says)})", found.values_from, rows_from)


@dataclass
class Scope:
    """The names that are visible inside one SELECT."""

    sources: list[Source] = field(default_factory=list)
    outer: "Scope | None" = None
    using: set[str] = field(default_factory=set)
    aliases: dict[str, Says] = field(default_factory=dict)
    ctes: Mapping[str, Relation] = field(default_factory=dict)

    def column(self, source: Source, name: str) -> Says | None:
        """A column of one of the sources."""
        return source.column(name, is_alone=sum(other.lookup is None for other in self.sources) == 1)


def digest(text: str) -> str:
    """A short stand-in for a long text."""
    return hashlib.sha256(text.encode()).hexdigest()[:20] if len(text) > 20 else text


def resolve(parts: Sequence[str], scope: Scope, is_inner: bool) -> Says | None:
    """A column of a source, a field of one, or a name given earlier in the same SELECT; in that order, as DuckDB does."""
    for length in range(len(parts) - 1, 0, -1):
        for source in scope.sources:
            if source.alias == parts[length - 1] and len(parts) > length:
                found = scope.column(source, parts[length])
                if found is not None:
                    return field_of(found, parts[length + 1 :])
    name = parts[0]
    listed = [source for source in scope.sources if name in source.relation.columns]
    if listed:
        found = scope.column(listed[0], name)
        return None if found is None else field_of(found, parts[1:])
    if is_inner and name in scope.aliases:
        return field_of(scope.aliases[name], parts[1:])
    unlisted = [scope.column(source, name) for source in scope.sources if source.relation.is_open]
    candidates = [column for column in unlisted if column is not None]
    if not candidates:
        return None
    return field_of(candidates[0] if len(candidates) == 1 else combine("one of", candidates), parts[1:])


def field_of(column: Says, path: Sequence[str]) -> Says:
    """A field of a struct column; the column itself when `path` is empty."""
    return Says(f"(field {column.says} {'.'.join(path)})", column.values_from, column.rows_from) if path else column


def base_table(name: str, columns: tuple[str, ...] | None, unique: tuple[frozenset[str], ...]) -> Relation:
    """A table of the lake; without a list of columns it has any that is asked for."""

    def column(column_name: str) -> Says:
        return Says(f"{name}.{column_name}", frozenset({(name, column_name)}))

    listed = {column_name: column(column_name) for column_name in columns or ()}
    rest = column if columns is None else None
    return Relation(f"table {name}", frozenset({(name, ROWS)}), listed, unique, rest)


def renamed(relation: Relation, names: Sequence[Any] | None) -> Relation:
    """A relation whose columns are given new names by position, as in `t(a, b)`."""
    if not names:
        return relation
    given = [name.name.lower() for name in names]
    if relation.is_open:
        rest = relation.rest
        assert rest is not None
        listed = {name: rest(f"#{position}") for position, name in enumerate(given)}
        return Relation(relation.rows, relation.rows_from, listed, (), None)
    columns = dict(zip(given, relation.columns.values(), strict=False))
    return Relation(relation.rows, relation.rows_from, columns, ())


def pass_through(scope: Scope, source: Source, left_out: set[str]) -> Callable[[str], Says | None]:
    """How a star lets a column through that nothing lists."""
    return lambda name: None if name in left_out or name in source.relation.columns else scope.column(source, name)


def kept_keys(scope: Scope, columns: Mapping[str, Says]) -> tuple[frozenset[str], ...]:
    """Unique keys of the first source that are still there, under their new names."""
    found = []
    for key in scope.sources[0].relation.unique:
        texts = {(scope.column(scope.sources[0], name) or Says("?")).says for name in key}
        names = frozenset(name for name, column in columns.items() if column.says in texts)
        if {columns[name].says for name in names} == texts:
            found.append(names)
    return tuple(found)


def find_first(scope: Scope, sources: Sequence[Source], name: str) -> Says | None:
    """A column of the first source that has one of this name."""
    return next((found for found in (scope.column(source, name) for source in sources) if found is not None), None)


def everything(relation: Relation) -> Inputs:
    """All that a relation reads, for rows or values."""
    found = relation.rows_from.union(*(column.all_from for column in relation.columns.values()))
    return found | {(table, ANY_COLUMN) for table, _ in found} if relation.is_open else found


def everything_around(scope: Scope) -> Inputs:
    """All that the sources of a SELECT read."""
    return NOTHING.union(*(everything(source.relation) for source in scope.sources))


def label(name: str, says: Says) -> Says:
    """A text under the name of its clause."""
    return Says(f"{name}={says.says}", says.values_from, says.rows_from)


def combine(word: str, parts: Sequence[Says]) -> Says:
    """One text of several, with all that they were made from."""
    text = f"({word} {' '.join(part.says for part in parts)})"
    values = NOTHING.union(*(part.values_from for part in parts))
    return Says(text, values, NOTHING.union(*(part.rows_from for part in parts)))
