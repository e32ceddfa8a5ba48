"""What lies upstream of a dbt model, and which table a test is of, by dbt's manifest."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def upstream_sources(manifest: Mapping[str, Any], models: Sequence[str]) -> tuple[str, ...]:
    """Names of the sources that any of `models` is built from, however far up, in name order.

    >>> manifest = {
    ...     "nodes": {"model.p.feat": {"name": "feat"}, "model.p.stg": {"name": "stg"}},
    ...     "sources": {"source.p.bronze.gates": {"name": "gates"}},
    ...     "parent_map": {"model.p.feat": ["model.p.stg"], "model.p.stg": ["source.p.bronze.gates"]},
    ... }
    >>> upstream_sources(manifest, ["feat"])
    ('gates',)
    """
    wanted = set(models)
    start = [key for key, node in manifest["nodes"].items() if node["name"] in wanted and key.startswith("model.")]
    return tuple(
        sorted(manifest["sources"][key]["name"] for key in _upstream(manifest, start) if key in manifest["sources"])
    )


def attach_tests(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with each test that belongs to no table by itself attached to one of the tables that it reads.

    Such a test is a singular one over several tables. It gets the one that is built last, as far as they build on each
    other, and otherwise the first by name; never a source, if it reads anything else. What the test's own
    `meta.dagster.ref` says goes before that.

    >>> manifest = {
    ...     "nodes": {
    ...         "test.p.agree": {"depends_on": {"nodes": ["source.p.b.raw", "model.p.stg", "model.p.feat"]}},
    ...         "model.p.stg": {},
    ...         "model.p.feat": {},
    ...     },
    ...     "sources": {"source.p.b.raw": {}},
    ...     "parent_map": {"model.p.feat": ["model.p.stg"], "model.p.stg": ["source.p.b.raw"]},
    ... }
    >>> attach_tests(manifest)["nodes"]["test.p.agree"]["attached_node"]
    'model.p.feat'
    """
    nodes = dict(manifest["nodes"])
    for key, node in nodes.items():
        reads = (
            sorted(node["depends_on"]["nodes"], key=lambda name: (name.startswith("source."), name)) if _is_test(key) else []
        )
        if len(reads) > 1 and not node.get("attached_node"):
            depth = {name: len(_upstream(manifest, [name]) & set(reads)) for name in reads}
            nodes[key] = {**node, "attached_node": max(reads, key=lambda name: depth[name])}
    return {**manifest, "nodes": nodes}


def _is_test(key: str) -> bool:
    return key.startswith("test.")


def contracted_columns(manifest: Mapping[str, Any], model: str) -> frozenset[str] | None:
    """Names of the columns, in lower case, that a model's enforced contract lets it have; None without such a contract.

    >>> node = {"name": "feat", "config": {"contract": {"enforced": True}}, "columns": {"Gate": {}}}
    >>> contracted_columns({"nodes": {"model.p.feat": node}}, "feat")
    frozenset({'gate'})
    """
    for key, node in manifest["nodes"].items():
        if node["name"] == model and key.startswith("model.") and node["config"].get("contract", {}).get("enforced"):
            return frozenset(column.lower() for column in node["columns"])
    return None


def asks_for_columns(manifest: Mapping[str, Any], key: str) -> bool:
    """Whether a model, or a macro that it calls, asks the database which columns a table has.

    >>> manifest = {
    ...     "nodes": {"model.p.wide": {"raw_code": "select {{ all() }}", "depends_on": {"macros": ["macro.p.all"]}}},
    ...     "macros": {"macro.p.all": {"macro_sql": "{% set c = adapter.get_columns_in_relation(this) %}"}},
    ... }
    >>> asks_for_columns(manifest, "model.p.wide")
    True
    """
    waiting = [manifest["nodes"][key]]
    seen: set[str] = set()
    while waiting:
        node = waiting.pop()
        if "columns_in_relation" in str(node.get("raw_code") or node.get("macro_sql")):
            return True
        called = set(node.get("depends_on", {}).get("macros", ())) & set(manifest.get("macros", ())) - seen
        seen |= called
        waiting += [manifest["macros"][name] for name in called]
    return False


def _upstream(manifest: Mapping[str, Any], start: Iterable[str]) -> set[str]:
    """Everything that `start` is built from, and itself."""
    waiting = list(start)
    seen: set[str] = set()
    while waiting:
        key = waiting.pop()
        if key not in seen:
            seen.add(key)
            waiting += manifest["parent_map"].get(key, ())
    return seen
