"""Binds the names in a parsed query to what they stand for, from the innermost SELECT outwards.

Each relation gets a text that says what its rows are, and each column a text that says what its values are. Texts of inner
relations are hashed into outer ones, so their length stays that of one SELECT.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sqlglot import exp

from factory_assets.core.transformations.query_meaning.expressions import Expressions
from factory_assets.core.transformations.query_meaning.relations import (
    ANY_COLUMN,
    NOTHING,
    ROWS,
    Relation,
    Says,
    Scope,
    Source,
    base_table,
    combine,
    digest,
    everything,
    find_first,
    kept_keys,
    label,
    pass_through,
    renamed,
)
from factory_assets.core.transformations.query_meaning.shapes import (
    as_list,
    conjuncts,
    find_in_select,
    has_aggregate,
    has_columns_function,
    keys_matched,
    star_of,
)

Known = Mapping[str, tuple[tuple[str, ...] | None, tuple[frozenset[str], ...]]]

# A series is no row by itself: generate_series makes a list, which unnest makes rows of.
_SET_RETURNING = (exp.Unnest, exp.Explode)


class Binder:
    """Binds queries over tables of which `known` tells columns and unique keys."""

    def __init__(self, known: Known) -> None:
        self._known = known
        expressions = Expressions(self.bind)
        self._say, self._parts = expressions.say, expressions.parts

    def bind(self, query: Any, scope: Scope | None = None, is_outermost: bool = False) -> Relation:
        """What `query` is. `scope` holds the CTEs and, for a correlated subquery, the names around it."""
        around = scope or Scope()
        ctes = dict(around.ctes)
        with_ = query.args.get("with_")
        if with_ is not None:
            if with_.args.get("recursive"):
                return self._opaque(query, around)
            for cte in with_.expressions:
                inner = self.bind(cte.this, Scope(outer=around.outer, ctes=dict(ctes)))
                ctes[cte.alias.lower()] = renamed(inner, cte.args["alias"].args.get("columns"))
        inside = Scope(outer=around.outer, ctes=ctes)
        match query:
            case exp.Select():
                return self._select(query, inside, is_outermost)
            case exp.SetOperation():
                return self._set_operation(query, inside)
            case exp.Subquery() if not query.args.get("pivots"):
                bound = self.bind(query.this, inside)
                return self._limited(bound, query, Scope([Source("", bound, 0)], inside.outer, ctes=ctes), is_outermost)
            case exp.Table():
                return self._table(query, inside)
            case _:
                return self._opaque(query, inside)

    # --- SELECT ---

    def _select(self, select: exp.Select, scope: Scope, is_outermost: bool) -> Relation:
        rows: list[Says] = []
        from_ = select.args.get("from_")
        if from_ is not None:
            rows.append(self._add_source(from_.this, scope))
        rows += [self._join(join, scope) for join in as_list(select.args.get("joins"))]
        rows += [self._add_source(lateral, scope) for lateral in as_list(select.args.get("laterals"))]
        columns, rest, stars = self._projections(select, scope)
        scope.aliases = columns
        said = self._clauses(select, scope, columns)
        plain = not said and not stars and len(scope.sources) == 1 and scope.sources[0].lookup is None and from_ is not None
        grain = self._grain(select, scope)
        said += grain
        if plain and not grain:
            # A SELECT that filters and groups nothing has the rows of its source.
            base = scope.sources[0].relation
            bound = Relation(base.rows, base.rows_from, columns, kept_keys(scope, columns), rest)
        else:
            parts = [*rows, *stars, *said]
            rows_from = NOTHING.union(*(part.all_from for part in parts))
            text = "select " + " ".join(part.says for part in parts if part.says)
            bound = Relation(text, rows_from, columns, self._keys(select, scope, columns), rest)
        return self._limited(bound, select, scope, is_outermost)

    def _clauses(self, select: exp.Select, scope: Scope, columns: Mapping[str, Says]) -> list[Says]:
        said = []
        for name in ("where", "having", "qualify"):
            clause = select.args.get(name)
            if clause is not None:
                said.append(label(name, self._say(clause.this, scope)))
        group = select.args.get("group")
        if group is not None:
            said.append(self._group(group, select, scope))
        distinct = select.args.get("distinct")
        if distinct is not None:
            chosen = [self._say(distinct.args["on"], scope)] if distinct.args.get("on") else list(columns.values())
            said.append(combine("distinct", chosen))
        return said + self._parts(select, ("windows", "sample", "match", "settings", "hint", "kind", "into"), scope)

    def _grain(self, select: exp.Select, scope: Scope) -> list[Says]:
        """What the projections do to the number of rows: an aggregate without GROUP BY, an unnest."""
        said = [
            label("unnest", self._say(projection.unalias(), scope))
            for projection in select.expressions
            if next(find_in_select(projection, _SET_RETURNING), None) is not None
        ]
        if select.args.get("group") is None and any(has_aggregate(projection) for projection in select.expressions):
            said.append(Says("(one row)"))
        return said

    def _group(self, group: exp.Group, select: exp.Select, scope: Scope) -> Says:
        texts = sorted((self._say(key, scope) for key in self._group_keys(group, select)), key=lambda key: key.says)
        others = self._parts(group, ("cube", "rollup", "grouping_sets"), scope)
        return combine("group", [*texts, *others])

    def _by_position(self, key: exp.Expr, select: exp.Select) -> Any:
        if isinstance(key, exp.Literal) and not key.is_string and 0 < int(key.name) <= len(select.expressions):
            return select.expressions[int(key.name) - 1].unalias()
        return key

    def _keys(self, select: exp.Select, scope: Scope, columns: Mapping[str, Says]) -> tuple[frozenset[str], ...]:
        """Column sets that are unique: by grouping, by distinct, or because no row of a unique source is multiplied."""
        group = select.args.get("group")
        distinct = select.args.get("distinct")
        if distinct is not None and not distinct.args.get("on"):
            return (frozenset(columns),)
        if self._grain(select, scope):
            return ()
        if group is None:
            is_kept = bool(scope.sources) and all(source.is_single for source in scope.sources[1:])
            return kept_keys(scope, columns) if is_kept else ()
        if any(group.args.get(name) for name in ("cube", "rollup", "grouping_sets")):
            return ()
        wanted = {self._say(key, scope).says for key in self._group_keys(group, select)}
        names = frozenset(name for name, column in columns.items() if column.says in wanted)
        return (names,) if {columns[name].says for name in names} == wanted else ()

    def _group_keys(self, group: exp.Group, select: exp.Select) -> list[Any]:
        if group.args.get("all"):
            return [p.unalias() for p in select.expressions if not has_aggregate(p)]
        return [self._by_position(key, select) for key in group.expressions]

    def _projections(
        self, select: exp.Select, scope: Scope
    ) -> tuple[dict[str, Says], Callable[[str], Says] | None, list[Says]]:
        columns: dict[str, Says] = {}
        stars: list[Says] = []
        rests: list[Callable[[str], Says | None]] = []
        scope.aliases = columns
        for number, projection in enumerate(select.expressions):
            star = star_of(projection)
            if star is not None:
                stars += self._expand(star, projection, scope, columns, rests)
            elif has_columns_function(projection):
                stars.append(label("columns", self._say(projection, scope)))
            else:
                name = projection.alias_or_name.lower() or f"column {number}"
                columns[name if name not in columns else f"{name}:{number}"] = self._say(projection.unalias(), scope)
        if not rests:
            return columns, None, stars
        listed = set(columns)

        def rest(name: str) -> Says:
            found = [says for says in (find(name) for find in rests if name not in listed) if says is not None]
            return combine("star", found) if len(found) != 1 else found[0]

        return columns, rest, stars

    def _expand(
        self,
        star: exp.Star,
        projection: exp.Expr,
        scope: Scope,
        columns: dict[str, Says],
        rests: list[Callable[[str], Says | None]],
    ) -> list[Says]:
        """Adds what a star stands for; returns what to say of the columns that cannot be listed."""
        table = projection.table.lower() if isinstance(projection, exp.Column) else ""
        left_out = {column.name.lower() for column in as_list(star.args.get("except_"))}
        replaced = {a.alias.lower(): a.this for a in as_list(star.args.get("replace"))}
        given = {a.this.name.lower(): a.alias.lower() for a in as_list(star.args.get("rename"))}
        seen: set[str] = set()
        said = []
        for source in scope.sources:
            if table and source.alias != table:
                continue
            for name in source.relation.columns:
                if name in left_out or (name in scope.using and name in seen):
                    continue
                seen.add(name)
                says = self._say(replaced[name], scope) if name in replaced else scope.column(source, name)
                columns[given.get(name, name)] = says or Says("?")
            if source.relation.is_open:
                for name, expression in replaced.items():
                    columns.setdefault(name, self._say(expression, scope))
                rests.append(pass_through(scope, source, left_out | set(given)))
                if left_out or given:
                    said.append(Says(f"(star but {sorted(left_out)} {sorted(given.items())})"))
        return said

    # --- sources ---

    def _add_source(self, node: Any, scope: Scope, position: int | None = None) -> Says:
        """Makes a FROM item visible; what it adds to the rows is returned."""
        position = len(scope.sources) if position is None else position
        alias = (node.alias or (node.name if isinstance(node, exp.Table) else "")).lower()
        names = node.args["alias"].args.get("columns") if node.args.get("alias") else None
        if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            relation = self._table(node, scope)
        elif isinstance(node, exp.Subquery) and not node.args.get("pivots") and not node.args.get("sample"):
            relation = self.bind(node, Scope(outer=scope, ctes=scope.ctes))
        else:
            relation = self._function(node, scope)
        scope.sources.append(Source(alias, renamed(relation, names), position))
        return Says(f"(from {digest(relation.rows)})", NOTHING, relation.rows_from)

    def _table(self, node: exp.Table, scope: Scope) -> Relation:
        name = ".".join(part for part in (node.db.lower(), node.name.lower()) if part)
        extra = self._parts(node, ("sample", "pivots", "joins", "version", "when"), scope)
        if not node.db and name in scope.ctes:
            relation = scope.ctes[name]
        else:
            relation = base_table(name, *self._known.get(name, (None, ())))
        if not extra:
            return relation
        changed = combine(f"of {digest(relation.rows)}", extra)
        return Relation(changed.says, changed.all_from | relation.rows_from, relation.columns, (), relation.rest)

    def _function(self, node: exp.Expr, scope: Scope) -> Relation:
        """A table function, UNNEST, LATERAL, VALUES: its columns are known by its text alone."""
        copy = node.copy()
        copy.set("alias", None)
        says = self._say(copy, scope)

        def rest(name: str) -> Says:
            return Says(f"(of {digest(says.says)} {name})", says.values_from, says.rows_from)

        return Relation(says.says, says.all_from, {}, (), rest)

    def _join(self, join: exp.Join, scope: Scope) -> Says:
        # Inner and cross joins differ in what they keep only by their condition.
        kind = " ".join(str(join.args.get(part) or "").upper() for part in ("method", "side", "kind")).replace("INNER", "")
        kind = " ".join(kind.replace("OUTER", "").replace("CROSS", "").split())
        positions = [source.position for source in scope.sources if source.lookup is None]
        left = list(scope.sources)
        rows = self._add_source(join.this, scope, max(positions, default=-1) + 1)
        right = scope.sources[-1]
        using = [name.name.lower() for name in as_list(join.args.get("using"))]
        conditions: list[Says] = []
        matched: set[str] = set(using)
        for name in using:
            scope.using.add(name)
            sides = (find_first(scope, left, name), scope.column(right, name))
            pair = [side for side in sides if side is not None]
            conditions.append(combine("=", sorted(pair, key=lambda s: s.says)))
        for part in conjuncts(join.args.get("on")):
            conditions.append(self._say(part, scope))
            matched |= keys_matched(part, right.alias)
        condition = combine(kind, sorted(conditions, key=lambda says: says.says))
        right.is_single = "ASOF" in kind or any(key and key <= matched for key in right.relation.unique)
        right.is_single = right.is_single and kind in ("", "LEFT", "ASOF", "ASOF LEFT")
        if right.is_single and "LEFT" in kind:
            right.lookup = combine(f"lookup {digest(right.relation.rows)}", [condition, rows])
            return Says("")
        return combine("join", [rows, condition])

    # --- the rest ---

    def _set_operation(self, query: exp.SetOperation, scope: Scope) -> Relation:
        sides = [self.bind(side, Scope(outer=scope.outer, ctes=scope.ctes)) for side in (query.left, query.right)]
        if any(side.is_open for side in sides):
            return self._opaque(query, scope)
        left, right = sides
        if query.args.get("by_name"):
            pairs = [(name, left.columns.get(name), right.columns.get(name)) for name in {**left.columns, **right.columns}]
        else:
            others = list(right.columns.values())
            pairs = [(n, says, others[i] if i < len(others) else None) for i, (n, says) in enumerate(left.columns.items())]
        words = f"{type(query).__name__} {query.args.get('distinct')} {query.args.get('by_name') or ''}".lower()
        columns = {name: combine(words, [part or Says("absent") for part in pair]) for name, *pair in pairs}
        parts = [Says(f"(of {digest(side.rows)})", NOTHING, side.rows_from) for side in sides]
        is_plain_union = isinstance(query, exp.Union) and not query.args.get("distinct")
        rows = combine(words, parts if is_plain_union else [*parts, *columns.values()])
        bound = Relation(rows.says, rows.all_from, columns)
        return self._limited(bound, query, Scope([Source("", bound, 0)], scope.outer, ctes=scope.ctes), False)

    def _limited(self, relation: Relation, query: Any, scope: Scope, is_outermost: bool) -> Relation:
        """ORDER BY, LIMIT and OFFSET. The order of a finished table is layout, unless it decides which rows are kept."""
        limits = [query.args[name] for name in ("limit", "offset") if query.args.get(name)]
        order = query.args.get("order")
        distinct = query.args.get("distinct")
        distinct_on = isinstance(distinct, exp.Distinct) and distinct.args.get("on")
        if order is not None and (limits or distinct_on or not is_outermost):
            limits.append(order)
        if not limits:
            return relation
        said = [self._say(clause, scope) for clause in limits]
        rows = combine(f"of {digest(relation.rows)}", said)
        return Relation(rows.says, rows.all_from | relation.rows_from, relation.columns, relation.unique, relation.rest)

    def _opaque(self, query: exp.Expr, scope: Scope) -> Relation:
        """Something that is not taken apart: every column stands for the whole."""
        text = query.sql(dialect="duckdb", comments=False, normalize=True)
        tables = {".".join(p for p in (t.db.lower(), t.name.lower()) if p) for t in query.find_all(exp.Table)}
        within = [scope.ctes[name] for name in sorted(tables) if name in scope.ctes]
        reads = frozenset((name, part) for name in tables if name not in scope.ctes for part in (ROWS, ANY_COLUMN))
        reads |= NOTHING.union(*map(everything, within))
        whole = Says(" ".join([text, *(digest(relation.rows) for relation in within)]), NOTHING, reads)

        def rest(name: str) -> Says:
            return Says(f"(of {digest(whole.says)} {name})", NOTHING, reads)

        names = [] if isinstance(query, exp.Values) else [name.lower() for name in getattr(query, "named_selects", ())]
        return Relation(whole.says, reads, {name: rest(name) for name in names if name != "*"}, (), rest)
