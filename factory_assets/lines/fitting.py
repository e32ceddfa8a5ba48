"""What of a line has to be trained, and the training of it: rows read once, fingerprints, and the fan-out."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from importlib.metadata import version as package_version

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from factory_assets.compute.backends import available_cores, open_fan_out
from factory_assets.compute.chunks import Lost, plan_chunks
from factory_assets.compute.mapped_table import MappedTable
from factory_assets.compute.metered import MeteredFunction
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.model_versions import LineStanding
from factory_assets.contracts.segments import ALL
from factory_assets.core.fingerprint import fingerprint_runs
from factory_assets.core.segments import Node, find_layout
from factory_assets.core.serving.hierarchy import LaterRows
from factory_assets.core.training.segment_training import (
    FitJob,
    ReigningModel,
    SegmentResult,
    SegmentTask,
    build_job,
    fit_chunk,
    say_too_small,
)
from factory_assets.core.training.time_split import LABEL, TRAIN, TrainingDataError, mark_parts
from factory_assets.lines.packages import estimator_packages
from factory_assets.lines.serving import ModelFiles
from factory_assets.lines.stores import LineStores
from factory_assets.lines.training_code import fingerprint_estimator_sources, fingerprint_training_code
from factory_assets.storage.memory import give_back_memory
from factory_assets.storage.row_file import write_rows
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
_MICROSECONDS_A_DAY = 86_400_000_000
# Below so many fits the start of worker processes costs more than they save.
_LEAST_TO_FAN_OUT = 24
# Work that a segment costs whatever its size, in rows: a fit is mostly overhead on a few hundred of them.
_ROWS_A_FIT = 400


Keep = Callable[[SegmentResult], SegmentResult]


class UnknownSegmentError(LookupError):
    """A retrain was asked for a segment that the training set has no row of."""


@dataclass(frozen=True)
class Plan:
    """One cycle: the rows laid out, the nodes that take part, and the fingerprint of each one's training.

    `to_fit` are the segments to be trained; the other nodes take part with the model that they have.
    """

    job: FitJob
    table: pa.Table
    nodes: tuple[Node, ...]
    cycles: Mapping[str, str]
    to_fit: frozenset[str]
    parts: np.ndarray
    # Gives back the memory of rows that lie in a file.
    forget: Callable[[], None] = lambda: None

    @property
    def rows(self) -> LaterRows:
        """The rows as the gate sees them."""
        moments = self.table.column(self.job.spec.as_of).cast(pa.timestamp("us")).cast(pa.int64())
        days = moments.to_numpy() // _MICROSECONDS_A_DAY
        return LaterRows(self.table.column(LABEL).to_numpy(), self.parts, days)


def plan_cycle(
    stores: LineStores, training_set: TrainingSet, before: LineStanding, requested: frozenset[str], bundles: ModelFiles
) -> Plan:
    """Reads the rows, and finds which segments changed since they were last trained, failed then, or lost their file.

    Args:
        stores: of the line.
        training_set: pinned.
        before: what was decided so far.
        requested: segments to look at; none means all.
        bundles: the model files.

    Raises:
        UnknownSegmentError: naming the requested segments without rows.
    """
    rows, nodes = _read_rows(stores, training_set, requested)
    add = partial(_add_columns_of_champions, stores, training_set)
    known_at = training_set.as_known_at_utc
    plan = plan_rows(stores.spec, rows.table, nodes, known_at, before, requested, bundles, add_columns=add)
    return replace(plan, forget=rows.forget)


def _read_rows(
    stores: LineStores, training_set: TrainingSet, requested: frozenset[str]
) -> tuple[MappedTable, tuple[Node, ...]]:
    """The rows laid out, in a file, and their nodes: once they are there, nothing of the rows is held."""
    read = stores.training_sets.read(training_set.table, requested)
    order, nodes = find_layout(read, stores.spec.levels)
    rows = write_rows(read, order)
    del read
    give_back_memory()
    return rows, nodes


def plan_rows(
    spec: ModelLineSpec,
    table: pa.Table,
    nodes: Sequence[Node],
    as_known_at_utc: datetime,
    before: LineStanding,
    requested: frozenset[str],
    bundles: ModelFiles,
    fingerprint: Callable[[pa.Table, Sequence[Node]], Mapping[str, str]] | None = None,
    add_columns: Callable[[pa.Table, LineStanding, Sequence[Node]], tuple[pa.Table, list[str]]] | None = None,
) -> Plan:
    """The plan of a cycle over rows that were read already: as they could be known at `as_known_at_utc`.

    Args:
        spec: the line.
        table: row key, segment key, features and label, laid out.
        nodes: of the table, as `lay_out` finds them.
        as_known_at_utc: the end of the holdout.
        before: what was decided so far.
        requested: segments to look at; none means all.
        bundles: the model files.
        fingerprint: names each node's training; absent: by the values of its rows.
        add_columns: adds what only champions read, and says what it added; absent: nothing.

    Raises:
        UnknownSegmentError: naming the requested segments without rows.
    """
    unknown = sorted(requested - {node.segment for node in nodes})
    if unknown:
        raise UnknownSegmentError(
            f"model line {spec.name!r} has no labelled row of segment {', '.join(unknown)}: segments are named like "
            f"{nodes[-1].segment if nodes else ALL!r}, the values of {', '.join(spec.segment_by)} joined by '~'"
        )
    taking_part = _with_ancestors(nodes, requested)
    cycles = fingerprint(table, nodes) if fingerprint else _fingerprint_nodes(spec, table, nodes)
    wanted = requested or frozenset(cycles)
    to_fit = frozenset(name for name in wanted if _is_to_fit(before, name, cycles[name], bundles))
    table, readers = add_columns(table, before, taking_part) if add_columns else (table, [])
    job = build_job(spec, table.drop(readers) if readers else table, as_known_at_utc)
    validation = spec.validation
    parts = mark_parts(
        table.column(spec.as_of), validation.holdout, validation.window, job.holdout_until_utc, spec.exam_span
    )
    return Plan(job, table, taking_part, cycles, to_fit, parts)


@dataclass(frozen=True)
class Fits:
    """One result a node, and the CPU seconds of each segment that was trained or tried, wherever that was."""

    results: Mapping[str, SegmentResult]
    cpu_seconds: Mapping[str, float]


def fit_plan(
    stores: LineStores,
    plan: Plan,
    before: LineStanding,
    bundles: ModelFiles,
    keep: Keep = lambda result: result,
) -> Fits:
    """Trains what is to be trained, and scores the later rows with the models that reign.

    Args:
        stores: of the line.
        plan: of the cycle.
        before: what was decided so far.
        bundles: the model files.
        keep: takes every result as it arrives, and gives what is to be held of it until the end.

    Raises:
        TrainingDataError: when the model of all rows was to be trained and could not be: without it nothing is served.
    """
    spec = plan.job.spec
    trained_rows = np.concatenate([[0], np.cumsum(plan.parts == TRAIN)])
    tasks: list[SegmentTask] = []
    results: dict[str, SegmentResult] = {}
    for node in plan.nodes:
        fit = node.segment in plan.to_fit
        reigning = _reigning(before, node, bundles)
        rows = int(trained_rows[node.start + node.length] - trained_rows[node.start])
        if fit and reigning is None and node.parent is not None and rows < spec.segments.min_rows:
            # Said without a task: most keys of a real fleet are small.
            results[node.segment] = keep(SegmentResult(node.segment, "too_small", say_too_small(spec, rows)))
        elif fit or reigning is not None:
            tasks.append(SegmentTask(node, fit, reigning))
        else:
            results[node.segment] = keep(SegmentResult(node.segment, "scored"))
    found, cpu_seconds = _run(stores, plan, tasks, keep)
    results.update(found)
    root = results.get(ALL)
    if root is not None and ALL in plan.to_fit and root.outcome != "fitted":
        raise TrainingDataError(f"model line {spec.name!r}: {root.reason}")
    return Fits(results, {segment: spent for segment, spent in cpu_seconds.items() if segment in plan.to_fit})


def fingerprint_inputs(spec: ModelLineSpec, training_set: TrainingSet, requested: Iterable[str]) -> str:
    """What a cycle can be known by before a row is read."""
    return _hash({"training_set": training_set.table.version, "requested": sorted(requested), **_declared(spec)})


def _run(
    stores: LineStores, plan: Plan, tasks: Sequence[SegmentTask], keep: Keep
) -> tuple[dict[str, SegmentResult], dict[str, float]]:
    workers = stores.workers or available_cores()
    chunks = plan_chunks(tasks, lambda task: _ROWS_A_FIT + task.node.length, workers)
    executor = plan.job.spec.executor if len(tasks) >= _LEAST_TO_FAN_OUT else "serial"
    fan_out = open_fan_out(executor, workers, stores.ray_address)
    found: dict[str, SegmentResult] = {}
    cpu_seconds: dict[str, float] = {}
    # One thread: OpenMP threads that wait for a core which another process holds made a 1 s fit take 20 s.
    with threadpool_limits(limits=1):
        for task, metered in fan_out.map(MeteredFunction(partial(fit_chunk, plan.job)), chunks, plan.table):
            segment = task.node.segment
            if not found:
                # The workers have the rows: what their way there brought into this process is not needed again.
                plan.forget()
                give_back_memory()
            if isinstance(metered, Lost):
                found[segment] = keep(SegmentResult(segment, "failed", f"its worker died: {metered.reason}"))
            else:
                found[segment], cpu_seconds[segment] = keep(metered.result), metered.cpu_seconds
    return found, cpu_seconds


def _with_ancestors(nodes: Sequence[Node], requested: frozenset[str]) -> tuple[Node, ...]:
    """The requested nodes and those that they are compared with; all, if none is requested."""
    if not requested:
        return tuple(nodes)
    parents = {node.segment: node.parent for node in nodes}
    wanted: set[str] = set()
    for segment in requested:
        name: str | None = segment
        while name is not None:
            wanted.add(name)
            name = parents[name]
    return tuple(node for node in nodes if node.segment in wanted)


def _fingerprint_nodes(spec: ModelLineSpec, table: pa.Table, nodes: Sequence[Node]) -> dict[str, str]:
    """The fingerprint of each node's training: declaration, rows and code. A parent's rows are those of its children."""
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


def fingerprint_declaration(spec: ModelLineSpec) -> str:
    """What of a declaration, and of the code, a training depends on."""
    return _hash(_declared(spec))


def _declared(spec: ModelLineSpec) -> dict[str, object]:
    declared = {name: value for name, value in spec.model_dump(mode="json").items() if name in _TRAINING_FIELDS}
    packages = {"sklearn": package_version("scikit-learn"), "estimator": estimator_packages(spec.estimator)}
    code = {"code": fingerprint_training_code(), "sources": fingerprint_estimator_sources(spec.estimator)}
    return {"spec": declared, **code, **packages}


def _hash(parts: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _is_to_fit(before: LineStanding, segment: str, cycle: str, bundles: ModelFiles) -> bool:
    standing = before.segments.get(segment)
    if standing is None or standing.cycle != cycle or standing.outcome == "failed":
        return True
    champion = standing.champion
    if not standing.serves:
        return False
    return champion is None or not bundles.holds(champion.artefact_path, champion.artefact_sha256)


def _reigning(before: LineStanding, node: Node, bundles: ModelFiles) -> ReigningModel | None:
    standing = before.segments.get(node.segment)
    champion = standing.champion if standing is not None else None
    if champion is None:
        return None
    packed = bundles.packed(champion.artefact_path, champion.artefact_sha256)
    return ReigningModel(packed, champion.numeric, champion.categorical)


def _add_columns_of_champions(
    stores: LineStores, training_set: TrainingSet, table: pa.Table, before: LineStanding, nodes: Sequence[Node]
) -> tuple[pa.Table, list[str]]:
    """The columns that only champions of another feature list read, from the feature set behind the training set.

    What the feature set no longer has stays absent, and a champion that reads it cannot be compared.
    """
    standings = [before.segments.get(node.segment) for node in nodes]
    champions = [standing.champion for standing in standings if standing is not None and standing.champion is not None]
    read = {name for champion in champions for name in (*champion.numeric, *champion.categorical)}
    missing = sorted((read - set(table.column_names)) & set(training_set.feature_set.columns))
    if not missing:
        return table, []
    rows = stores.training_sets.read_features(training_set.feature_set, missing)
    key = list(stores.spec.row_key)
    places = table.select(key).append_column("__place", pa.array(np.arange(table.num_rows)))
    joined = places.join(rows, key, join_type="left outer").sort_by("__place")
    for name in missing:
        table = table.append_column(name, joined.column(name))
    return table, missing
