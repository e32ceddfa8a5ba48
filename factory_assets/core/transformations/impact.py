"""Compares the meaning of dbt models before and after an edit, and follows each change to the columns that read it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from factory_assets.contracts.impact import LineImpact, ModelChange
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.core.transformations.query_meaning import ColumnMeaning, QueryMeaning, short_hash
from factory_assets.core.transformations.query_meaning.relations import ANY_COLUMN, ROWS, Inputs


@dataclass(frozen=True)
class ModelMeaning:
    """One side of one model: its query, that of an incremental run, its contract, and what a run replaces."""

    table: str
    query: QueryMeaning
    incremental: QueryMeaning | None = None
    contract: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """One hash of everything."""
        incremental = self.incremental.fingerprint if self.incremental else ""
        parts = [self.query.fingerprint, incremental, sorted(self.contract.items()), sorted(self.settings.items())]
        return short_hash(repr(parts))


def compare_model(before: ModelMeaning, after: ModelMeaning) -> ModelChange | None:
    """What an edit changes of one model by itself; None when its meaning is the same."""
    reasons = []
    columns: dict[str, str] = {}
    if before.query.rows != after.query.rows:
        reasons.append("sources, joins, filters or grouping")
    columns |= _compare_columns(before.query, after.query, "")
    # Published by a full refresh, there is no incremental query yet that an edit could differ from.
    if before.incremental is not None and after.incremental is not None:
        if before.incremental.rows != after.incremental.rows and not reasons:
            reasons.append("the rows that an incremental run reads")
        columns = {**_compare_columns(before.incremental, after.incremental, " of an incremental run"), **columns}
    reasons += [
        f"{name}: {before.settings.get(name, 'none')} -> {after.settings.get(name, 'none')}"
        for name in sorted({*before.settings, *after.settings})
        if before.settings.get(name) != after.settings.get(name)
    ]
    for name in {**before.contract, **after.contract}:
        old, new = before.contract.get(name, "absent"), after.contract.get(name, "absent")
        if old != new:
            columns.setdefault(name, f"contract: {old} -> {new}")
    if not reasons and not columns and before.query.fingerprint != after.query.fingerprint:
        reasons.append("columns whose names are not known")
    if not reasons and not columns:
        return None
    if reasons:
        columns = {**dict.fromkeys(_names(after), "every column: the rows may change"), **columns}
    return ModelChange(after.table, "changed", bool(reasons), columns, tuple(reasons))


def new_model(meaning: ModelMeaning) -> ModelChange:
    """A model that was never published."""
    return ModelChange(meaning.table, "new", True, dict.fromkeys(_names(meaning), "new"))


def removed_model(meaning: ModelMeaning) -> ModelChange:
    """A published model that the project no longer has."""
    return ModelChange(meaning.table, "removed", True, dict.fromkeys(_names(meaning), "removed"))


def follow_changes(changes: Mapping[str, ModelChange], models: Sequence[ModelMeaning]) -> list[ModelChange]:
    """All that differs: `changes` by table, and what reads them. `models` are in the order in which they are built."""
    found = {table: change for table, change in changes.items() if change.kind == "removed"}
    for model in models:
        own = changes.get(model.table)
        if own is not None and own.kind in ("new", "unrecorded"):
            found[model.table] = own
            continue
        merged = _merge(own, _affected(model, found))
        if merged is not None:
            found[model.table] = merged
    return list(found.values())


def find_lines(changes: Iterable[ModelChange], lines: Iterable[ModelLineSpec]) -> list[LineImpact]:
    """The lines that read an affected column, with the columns; a line that reads none is not listed."""
    by_table = {change.table: change for change in changes if change.kind != "unrecorded"}
    found = []
    for line in lines:
        features_change = by_table.get(f"features.{line.feature_set}")
        labels_change = by_table.get(f"marts.{line.label.model}")
        hit = set(features_change.columns) if features_change else set()
        every = {column for column in hit if column not in line.row_key}
        features = tuple(sorted(every & set(line.features) if line.features else every))
        label_columns = {line.label.column, line.label.known_at}
        label = tuple(sorted(label_columns & set(labels_change.columns))) if labels_change else ()
        keys = tuple(column for column in dict.fromkeys((*line.row_key, *line.segment_by)) if column in hit)
        if labels_change is not None:
            keys += tuple(column for column in line.entity if column in labels_change.columns and column not in keys)
        rows = any(change is not None and change.rows for change in (features_change, labels_change))
        if features or label or keys or rows:
            found.append(LineImpact(line.name, line.feature_set, features, label, keys, rows))
    return found


def _compare_columns(before: QueryMeaning, after: QueryMeaning, where: str) -> dict[str, str]:
    found = {}
    for name in {**before.columns, **after.columns}:
        old, new = before.columns.get(name), after.columns.get(name)
        if old is None:
            found[name] = f"added{where}"
        elif new is None:
            found[name] = f"removed{where}"
        elif old.fingerprint != new.fingerprint:
            found[name] = f"expression{where}"
    return found


def _affected(model: ModelMeaning, found: Mapping[str, ModelChange]) -> ModelChange | None:
    """What a model takes over from the changes upstream."""
    queries = [model.query, *([model.incremental] if model.incremental else [])]
    rows_hit = sorted(_hit(frozenset().union(*(query.rows_from for query in queries)), found, model.table))
    columns = {}
    for name, column in model.query.columns.items():
        hit = sorted(_hit(_all_of(column), found, model.table))
        if hit:
            columns[name] = f"reads {_few(hit)}"
    if rows_hit:
        columns = {**dict.fromkeys(_names(model), "every column: the rows may change"), **columns}
    elif not columns:
        return None
    reasons = (f"rows depend on {_few(rows_hit)}",) if rows_hit else ()
    return ModelChange(model.table, "affected", bool(rows_hit), columns, reasons)


def _hit(inputs: Inputs, found: Mapping[str, ModelChange], own: str) -> set[str]:
    hit = set()
    for table, column in inputs:
        change = found.get(table)
        # An incremental model reads itself, which is no change from upstream.
        if change is None or change.kind == "unrecorded" or table == own:
            continue
        if column == ROWS:
            hit |= {f"the rows of {table}"} if change.rows else set()
        elif column == ANY_COLUMN:
            hit |= {f"{table}"}
        elif column in change.columns and not (change.kind == "changed" and change.columns[column] == "added"):
            hit.add(f"{table}.{column}")
    return hit


def _merge(own: ModelChange | None, affected: ModelChange | None) -> ModelChange | None:
    if own is None or affected is None:
        return own or affected
    return ModelChange(
        own.table, own.kind, own.rows or affected.rows, {**affected.columns, **own.columns}, own.reasons + affected.reasons
    )


def _names(model: ModelMeaning) -> list[str]:
    return list({**model.query.columns, **model.contract})


def _all_of(column: ColumnMeaning) -> Inputs:
    return column.values_from | column.rows_from


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
