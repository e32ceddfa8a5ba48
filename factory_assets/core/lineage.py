"""What lies upstream of a dbt model, by dbt's manifest."""

from collections.abc import Mapping, Sequence
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
    waiting = [key for key, node in manifest["nodes"].items() if node["name"] in wanted and key.startswith("model.")]
    seen: set[str] = set()
    while waiting:
        key = waiting.pop()
        if key not in seen:
            seen.add(key)
            waiting += manifest["parent_map"].get(key, ())
    return tuple(sorted(manifest["sources"][key]["name"] for key in seen if key in manifest["sources"]))
