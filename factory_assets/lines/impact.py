"""What an edit of the dbt project would change, from the models to the lines that would have to be trained again."""

import statistics
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from factory_assets.contracts.impact import ImpactReport, ModelChange, RetrainCost, TableDiff
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.core.transformations.impact import (
    ModelMeaning,
    compare_model,
    find_lines,
    follow_changes,
    new_model,
    removed_model,
)
from factory_assets.storage.dbt.definitions import DbtModel, find_published, read_meanings
from factory_assets.storage.dbt.published_query import PublishedQuery
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.delta.table_diff import DataDiffError, RebuiltModel, Scratch, diff_table, open_scratch
from factory_assets.storage.tables.retrain_ledger import RETRAIN_LEDGER

PUBLISHED = "the published state"
_NEWEST_RUNS = 5

# What a retrain of a line took before; None when there was none.
EstimateCost = Callable[[str], RetrainCost | None]


@dataclass(frozen=True)
class Before:
    """The state that an edit is compared with: queries by table, tables without a record, and models that are gone."""

    name: str
    queries: Mapping[str, PublishedQuery]
    unrecorded: frozenset[str] = frozenset()
    gone: tuple[DbtModel, ...] = ()


def read_published_state(lake: Lake, models: Sequence[DbtModel]) -> Before:
    """What made the published tables of `models`, by the record beside their commits; needs no git."""
    queries, unrecorded = {}, set()
    for model in models:
        query, is_there = find_published(lake, model.table)
        if query is not None:
            queries[model.table] = query
        elif is_there:
            unrecorded.add(model.table)
    return Before(PUBLISHED, queries, frozenset(unrecorded))


def as_before(ref: str, models: Sequence[DbtModel], now: Sequence[DbtModel]) -> Before:
    """The models of another tree, such as a git ref's."""
    tables = {model.table for model in now}
    gone = tuple(model for model in models if model.table not in tables)
    return Before(ref, {model.table: model.query for model in models}, gone=gone)


def assess_impact(
    lake: Lake,
    models: Sequence[DbtModel],
    before: Before,
    lines: Sequence[ModelLineSpec],
    estimate_cost: EstimateCost,
    with_data: bool = True,
) -> ImpactReport:
    """Compares `models` with `before`; with data, also computes the rows of what changed and compares them.

    Rows are compared with the published tables, also when the models are compared with another tree.
    """
    columns = _source_columns(lake, models)
    after_meanings = read_meanings(models, {}, columns)
    before_meanings = read_meanings([*models, *before.gone], before.queries, columns)
    changes = _compare(models, before, before_meanings, after_meanings)
    followed = follow_changes(changes, [after_meanings[model.table] for model in models])
    hit = [replace(line, cost=estimate_cost(line.line)) for line in find_lines(followed, lines)]
    absent = {table for model in models for table in model.reads} - columns.keys() - {model.table for model in models}
    diffs, notes = _diff_data(lake, models, followed, absent) if with_data else ([], [])
    return ImpactReport(before.name, tuple(followed), tuple(hit), tuple(diffs), (*_notes(before), *notes))


def estimate_from_ledger(lake: Lake) -> EstimateCost:
    """The median wall time of a line's newest retrains, from their request to their answer, by the retrain ledger."""
    seconds: dict[str, list[float]] = {}
    requested: dict[tuple[str, str], float] = {}
    for row in sorted(lake.rows(RETRAIN_LEDGER), key=lambda row: row["recorded_at_utc"]):
        at, key = row["recorded_at_utc"].timestamp(), (row["line"], row["run_key"])
        if row["state"] == "requested":
            requested[key] = at
        elif row["state"] in ("promoted", "kept_champion") and key in requested:
            seconds.setdefault(row["line"], []).append(at - requested[key])

    def estimate(line: str) -> RetrainCost | None:
        newest = seconds.get(line, [])[-_NEWEST_RUNS:]
        source = f"{RETRAIN_LEDGER.name}: request to answer, median of the newest"
        return RetrainCost(statistics.median(newest), len(newest), source) if newest else None

    return estimate


def _compare(
    models: Sequence[DbtModel],
    before: Before,
    before_meanings: Mapping[str, ModelMeaning],
    after_meanings: Mapping[str, ModelMeaning],
) -> dict[str, ModelChange]:
    changes = {model.table: removed_model(before_meanings[model.table]) for model in before.gone}
    for model in models:
        after = after_meanings[model.table]
        if model.table in before.unrecorded:
            changes[model.table] = ModelChange(model.table, "unrecorded")
        elif model.table not in before.queries:
            changes[model.table] = new_model(after)
        else:
            change = compare_model(before_meanings[model.table], after)
            if change is not None:
                changes[model.table] = change
    return changes


def _source_columns(lake: Lake, models: Sequence[DbtModel]) -> dict[str, tuple[str, ...]]:
    """Columns of the tables that are read and that no model makes, as the lake has them."""
    own = {model.table for model in models}
    sources = sorted({table for model in models for table in model.reads} - own)
    pinned = {table: lake.find(table.replace(".", "/", 1)) for table in sources}
    return {table: tuple(map(str.lower, found.columns)) for table, found in pinned.items() if found is not None}


def _diff_data(
    lake: Lake, models: Sequence[DbtModel], changes: Sequence[ModelChange], absent: Set[str]
) -> tuple[list[TableDiff], list[str]]:
    """Computes what changed in the order of building; a model that fails is noted, and so is what reads it.

    What reads tables that are `absent`, at whatever remove, is not tried; one note says so.
    """
    wanted = {change.table for change in changes if change.kind in ("new", "changed", "affected")}
    diffs: list[TableDiff] = []
    failed: dict[str, str] = {}
    missed: set[str] = set()
    without_rows = {*absent}
    with open_scratch(lake) as scratch:
        scratch.show_published(sorted({table for model in models for table in (model.table, *model.reads)}))
        for model in models:
            if model.table not in wanted:
                continue
            if not without_rows.isdisjoint(model.reads):
                missed.update(absent & set(model.reads))
                without_rows.add(model.table)
                continue
            broken = [table for table in model.reads if table in failed]
            if broken:
                failed[model.table] = f"{model.table}: not computed, since it reads {', '.join(broken)}"
                continue
            try:
                diffs.append(_diff(scratch, model))
            except DataDiffError as error:
                failed[model.table] = f"rows were not compared: {error}"
    return diffs, [*_note_missed(missed), *failed.values()]


def _note_missed(tables: Set[str]) -> list[str]:
    if not tables:
        return []
    names = ", ".join(sorted(tables))
    why = f"rows were not compared of what reads {names}: the lake has no such table yet"
    return [f"{why}. Take in days first, with the daily job or `factory demo`"]


def _diff(scratch: Scratch, model: DbtModel) -> TableDiff:
    if not model.is_sql:
        raise DataDiffError(f"{model.table}: a seed or a Python model is computed by dbt alone")
    rebuilt = RebuiltModel(model.table, model.query.full, model.unique)
    scratch.compute(rebuilt)
    return diff_table(scratch, rebuilt)


def _notes(before: Before) -> list[str]:
    return [
        f"{table}: published without a record of its query, so its meaning cannot be compared: build it once, or name a "
        "ref with --against"
        for table in sorted(before.unrecorded)
    ]
