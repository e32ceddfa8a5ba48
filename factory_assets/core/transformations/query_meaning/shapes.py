"""Questions to a parsed query that need no names bound: which nodes aggregate, what a condition sets equal."""

from collections.abc import Iterator
from typing import Any

from sqlglot import exp


def star_of(projection: exp.Expr) -> exp.Star | None:
    """The star of `*` or `t.*`; None for any other projection."""
    if isinstance(projection, exp.Star):
        return projection
    return projection.this if isinstance(projection, exp.Column) and isinstance(projection.this, exp.Star) else None


def has_columns_function(projection: exp.Expr) -> bool:
    """Whether `COLUMNS(...)` stands for several columns in it."""
    return any(True for _ in projection.find_all(exp.Columns))


def find_in_select(node: exp.Expr, kinds: Any) -> Iterator[exp.Expr]:
    """Nodes of these kinds that belong to this SELECT, and not to a query inside it."""
    if isinstance(node, kinds):
        yield node
    for child in node.iter_expressions():
        if not isinstance(child, (exp.Subquery, exp.Select, exp.SetOperation)):
            yield from find_in_select(child, kinds)


def has_aggregate(node: exp.Expr) -> bool:
    """Whether it aggregates rows of its SELECT; a window function does not, unless an aggregate is inside."""
    if isinstance(node, exp.Window):
        inside = list(node.this.iter_expressions()) if isinstance(node.this, exp.AggFunc) else [node.this]
        return any(has_aggregate(child) for child in inside)
    if isinstance(node, exp.AggFunc):
        return True
    if isinstance(node, (exp.Subquery, exp.Select, exp.SetOperation)):
        return False
    return any(has_aggregate(child) for child in node.iter_expressions())


def keys_matched(part: exp.Expr, alias: str) -> set[str]:
    """Columns of `alias` that this condition sets equal to something that does not read `alias`."""
    if not isinstance(part, exp.EQ):
        return set()
    sides = [part.this.unnest(), part.expression.unnest()]
    for side, other in (sides, sides[::-1]):
        reads_it = any(c.table.lower() in (alias, "") for c in other.find_all(exp.Column))
        if isinstance(side, exp.Column) and side.table.lower() == alias and not reads_it:
            return {side.name.lower()}
    return set()


def conjuncts(condition: exp.Expr | None) -> Iterator[Any]:
    """The conditions that AND joins, with brackets taken away."""
    if condition is None:
        return
    plain = condition.unnest()
    if isinstance(plain, exp.And):
        for part in plain.flatten():
            yield from conjuncts(part)
    else:
        yield plain


def as_list(value: Any) -> list[Any]:
    """The value itself when it is a list, one of it when not, none of None."""
    return value if isinstance(value, list) else [] if value is None else [value]
