"""What an expression says: its text, in which every name is replaced by what it stands for."""

from collections.abc import Callable
from typing import Any

from sqlglot import exp

from factory_assets.core.transformations.query_meaning.relations import (
    NOTHING,
    Relation,
    Says,
    Scope,
    combine,
    digest,
    everything_around,
    label,
    resolve,
)
from factory_assets.core.transformations.query_meaning.shapes import as_list

# Arguments that say nothing of the meaning.
_SILENT = frozenset({"comments", "quoted"})
# Their text is a name, of a function that the parser does not know or of a unit: case says nothing.
_NAMES = (exp.Anonymous, exp.AnonymousAggFunc, exp.Var)


class Expressions:
    """Expressions of a scope; `bind` says what a query within one of them is."""

    def __init__(self, bind: Callable[[Any, Scope], Relation]) -> None:
        self._bind = bind

    def parts(self, node: exp.Expr, names: tuple[str, ...], scope: Scope) -> list[Says]:
        """The clauses of `node` that are there, each with its name."""
        clauses = [(name, clause) for name in names for clause in as_list(node.args.get(name))]
        return [label(name, self.say(clause, scope)) for name, clause in clauses if isinstance(clause, exp.Expr)]

    def say(self, node: Any, scope: Scope, parameters: frozenset[str] = frozenset()) -> Says:
        """The text of an expression, in which every name is replaced by what it stands for."""
        match node:
            case exp.Paren():
                return self.say(node.this, scope, parameters)
            case exp.Column():
                return self._column(node, scope, parameters)
            case exp.Subquery() | exp.Select() | exp.SetOperation():
                return self._subquery(node, scope)
            case exp.Identifier():
                return Says(node.name.lower())
            case exp.Literal():
                return Says(repr(node.this) if node.is_string else str(node.this))
            case exp.And() | exp.Or():
                return self._in_any_order(node.key, list(node.flatten()), scope, parameters)
            case exp.EQ() | exp.NEQ():
                return self._in_any_order(node.key, [node.this, node.expression], scope, parameters)
            case exp.Lambda():
                return self._arguments(node, scope, parameters | {name.name.lower() for name in node.expressions})
            case _:
                return self._arguments(node, scope, parameters)

    def _arguments(self, node: exp.Expr, scope: Scope, parameters: frozenset[str]) -> Says:
        parts = []
        for name, value in sorted(node.args.items()):
            for part in () if name in _SILENT else as_list(value):
                if isinstance(part, exp.Expr):
                    parts.append(label(name, self.say(part, scope, parameters)))
                elif part is not None and part is not False:
                    parts.append(Says(f"{name}={str(part).lower() if isinstance(node, _NAMES) else part}"))
        return combine(node.key, parts)

    def _in_any_order(self, key: str, nodes: list[Any], scope: Scope, parameters: frozenset[str]) -> Says:
        return combine(key, sorted((self.say(n, scope, parameters) for n in nodes), key=lambda part: part.says))

    def _subquery(self, node: exp.Expr, scope: Scope) -> Says:
        inner = self._bind(node, Scope(outer=scope, ctes=scope.ctes))
        columns = inner.columns.values()
        rows = inner.rows_from.union(*(column.rows_from for column in columns))
        text = f"(query {digest(inner.rows)} {' '.join(digest(column.says) for column in columns)})"
        return Says(text, NOTHING.union(*(column.values_from for column in columns)), rows)

    def _column(self, node: exp.Column, scope: Scope, parameters: frozenset[str]) -> Says:
        if isinstance(node.this, exp.Star):
            return Says(f"* of {node.table.lower()}", NOTHING, everything_around(scope))
        parts = [part.name.lower() for part in node.parts]
        if len(parts) == 1 and parts[0] in parameters:
            return Says(f"(parameter {parts[0]})")
        depth = 0
        around: Scope | None = scope
        while around is not None:
            found = resolve(parts, around, is_inner=depth == 0)
            if found is not None:
                return found if depth == 0 else Says(f"(outer {depth} {found.says})", found.values_from, found.rows_from)
            around, depth = around.outer, depth + 1
        return Says(f"(unknown {'.'.join(parts)})", NOTHING, everything_around(scope))
