"""What a training is known by: its declaration, its rows, and the code and packages that do it."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version as package_version

import pyarrow as pa

from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.core.fingerprint import fingerprint_runs
from factory_assets.core.segments import Node
from factory_assets.lines.packages import estimator_packages
from factory_assets.lines.training_code import fingerprint_estimator_sources, fingerprint_training_code
from factory_assets.storage.tables.training_sets import TrainingSet

_TRAINING_FIELDS = (
    "name",
    "feature_set",
    "entity",
    "as_of",
    "features",
    "label",
    "estimator",
    "params",
    "search",
    "sample_weight",
    "validation",
    "segment_by",
    "parents",
    "segments",
)


def fingerprint_inputs(spec: ModelLineSpec, training_set: TrainingSet, requested: Iterable[str]) -> str:
    """What a cycle can be known by before a row is read."""
    return _hash({"training_set": training_set.table.version, "requested": sorted(requested), **_declared(spec)})


def fingerprint_declaration(spec: ModelLineSpec) -> str:
    """What of a declaration, and of the code, a training depends on."""
    return _hash(_declared(spec))


def fingerprint_nodes(spec: ModelLineSpec, table: pa.Table, nodes: Sequence[Node]) -> dict[str, str]:
    """What the training of each node is known by: declaration, rows and code. A parent's rows are those of its children."""
    declared = _declared(spec)
    leaves = [node for node in nodes if node.level == 0]
    rows = dict(
        zip(
            (node.segment for node in leaves),
            fingerprint_runs(table, [(node.start, node.length) for node in leaves]),
            strict=True,
        )
    )
    children: dict[str, list[str]] = {}
    for node in reversed(nodes):  # from the segments up, so that a parent's children are complete
        if node.level > 0:
            rows[node.segment] = _hash({"children": sorted(children.get(node.segment, ()))})
        if node.parent is not None:
            children.setdefault(node.parent, []).append(f"{node.segment}:{rows[node.segment]}")
    return {segment: _hash({"rows": fingerprint, **declared}) for segment, fingerprint in rows.items()}


def _declared(spec: ModelLineSpec) -> dict[str, object]:
    declared = {name: value for name, value in spec.model_dump(mode="json").items() if name in _TRAINING_FIELDS}
    packages = {"sklearn": package_version("scikit-learn"), "estimator": estimator_packages(spec.estimator)}
    code = {"code": fingerprint_training_code(), "sources": fingerprint_estimator_sources(spec.estimator)}
    return {"spec": declared, **code, **packages}


def _hash(parts: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
