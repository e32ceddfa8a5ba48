"""The models of a dbt project as its manifest has them after compiling, and as they were when their tables were written."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from factory_assets.core.transformations.impact import ModelMeaning
from factory_assets.core.transformations.query_meaning import (
    KnownTable,
    QueryMeaning,
    SqlNotUnderstoodError,
    meaning_of_text,
    read_meaning,
)
from factory_assets.storage.dbt.published_query import PublishedQuery, decode_record
from factory_assets.storage.delta.lake import Lake

_TABLES = ("model", "seed", "snapshot")


@dataclass(frozen=True)
class DbtModel:
    """One node that becomes a table. `table` is '<schema>.<name>', as SQL names it."""

    unique_id: str
    table: str
    query: PublishedQuery
    is_sql: bool
    # Tables that it reads, sources included.
    reads: tuple[str, ...]
    unique: tuple[tuple[str, ...], ...]

    @property
    def lake_name(self) -> str:
        """Where the table lies in the lake: '<schema>/<name>'."""
        return self.table.replace(".", "/", 1)


def list_models(manifest: Mapping[str, Any], incremental: Mapping[str, Any] | None = None) -> list[DbtModel]:
    """The tables of a compiled manifest, each after those that it reads.

    `manifest` is compiled as for a full refresh, `incremental` as for an incremental run.
    """
    nodes = {key: node for key, node in manifest["nodes"].items() if node["resource_type"] in _TABLES}
    keys = _unique_keys(manifest)
    models = []
    for key in _in_order(nodes):
        node = nodes[key]
        if node["config"].get("materialized") == "ephemeral":
            continue
        other = (incremental or {}).get("nodes", {}).get(key, {}).get("compiled_code")
        full = _text_of(node)
        query = PublishedQuery.of_node(full, None if other is None or other == full else other, node)
        own_key = _names(node["config"].get("unique_key"))
        unique = tuple(dict.fromkeys([*([own_key] if own_key else []), *keys.get(key, ())]))
        models.append(DbtModel(key, _table(node), query, _is_sql(node), _reads(node, manifest), unique))
    return models


def find_published(lake: Lake, model_table: str) -> tuple[PublishedQuery | None, bool]:
    """The query that made a published table, if it was recorded; and whether the table is there at all."""
    pinned = lake.find(model_table.replace(".", "/", 1))
    if pinned is None:
        return None, False
    # Maintenance commits carry no record: the newest that does is what made the rows.
    for limit in (20, None):
        for commit in pinned.handle.history(limit):
            record = decode_record(commit)
            if record is not None:
                return record, True
    return None, True


def read_meanings(
    models: Iterable[DbtModel], queries: Mapping[str, PublishedQuery], columns: Mapping[str, tuple[str, ...]]
) -> dict[str, ModelMeaning]:
    """The meaning of each model by its table, with the query that `queries` gives for it (absent: its own).

    `columns` are those of the sources, as far as they are known.
    """
    known = {table: KnownTable(names) for table, names in columns.items()}
    found = {}
    for model in models:
        query = queries.get(model.table, model.query)
        full = _meaning(query.full, model, known)
        incremental = None if query.incremental is None else _meaning(query.incremental, model, known)
        found[model.table] = ModelMeaning(model.table, full, incremental, query.columns, query.settings)
        names = None if full.is_open else tuple(full.columns)
        known[model.table] = KnownTable(names, tuple(frozenset(key) for key in model.unique))
    return found


def _meaning(text: str, model: DbtModel, known: Mapping[str, KnownTable]) -> QueryMeaning:
    if model.is_sql:
        try:
            return read_meaning(text, known)
        except SqlNotUnderstoodError:
            pass
    return meaning_of_text(text, model.reads)


def _text_of(node: Mapping[str, Any]) -> str:
    if node["resource_type"] == "seed":
        return f"seed {node['checksum']['checksum']}"
    return str(node.get("compiled_code") or node.get("raw_code") or "")


def _is_sql(node: Mapping[str, Any]) -> bool:
    return node["resource_type"] != "seed" and node.get("language") != "python"


def _table(node: Mapping[str, Any]) -> str:
    return f"{node['schema']}.{node.get('alias') or node.get('identifier') or node['name']}".lower()


def _reads(node: Mapping[str, Any], manifest: Mapping[str, Any]) -> tuple[str, ...]:
    found: list[str] = []
    for key in node.get("depends_on", {}).get("nodes", ()):
        parent = manifest["nodes"].get(key) or manifest["sources"].get(key)
        if parent is None:
            continue
        if parent.get("config", {}).get("materialized") == "ephemeral":
            found += _reads(parent, manifest)
        else:
            found.append(_table(parent))
    return tuple(found)


def _in_order(nodes: Mapping[str, Any]) -> list[str]:
    """Keys of `nodes`, each after those that it depends on; dbt has refused cycles."""
    done: dict[str, None] = {}

    def visit(key: str) -> None:
        if key in done or key not in nodes:
            return
        for parent in nodes[key].get("depends_on", {}).get("nodes", ()):
            visit(parent)
        done[key] = None

    for key in sorted(nodes):
        visit(key)
    return list(done)


def _unique_keys(manifest: Mapping[str, Any]) -> dict[str, list[tuple[str, ...]]]:
    """Column sets that the tests of each model hold to be unique: `unique`, and those that take a list of columns."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for node in manifest["nodes"].values():
        test = node.get("test_metadata") or {}
        config = node.get("config") or {}
        if not test or config.get("where") or str(config.get("severity")).lower() == "warn" or not node.get("attached_node"):
            continue
        arguments = test.get("kwargs") or {}
        if test["name"] == "unique" and arguments.get("column_name"):
            columns = (arguments["column_name"],)
        elif test["name"] in ("unique_combination", "unique_combination_of_columns"):
            columns = tuple(arguments.get("columns") or arguments.get("combination_of_columns") or ())
        else:
            continue
        if columns:
            found.setdefault(node["attached_node"], []).append(tuple(column.lower() for column in columns))
    return found


def _names(value: Any) -> tuple[str, ...]:
    if not value:
        return ()
    return (value.lower(),) if isinstance(value, str) else tuple(str(name).lower() for name in value)
