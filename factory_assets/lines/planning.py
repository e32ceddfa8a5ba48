"""What of a line has to be trained: its rows read once and laid out, and the segments that changed since they were."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import numpy as np
import pyarrow as pa

from factory_assets.compute.mapped_table import MappedTable
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.model_versions import LineStanding
from factory_assets.contracts.segments import ALL
from factory_assets.core.segments import Node, find_layout
from factory_assets.core.serving.hierarchy import LaterRows
from factory_assets.core.training.segment_training import FitJob, build_job
from factory_assets.core.training.time_split import LABEL, mark_parts
from factory_assets.lines.fingerprints import fingerprint_nodes
from factory_assets.lines.serving import ModelFiles
from factory_assets.lines.stores import LineStores
from factory_assets.storage.memory import give_back_memory
from factory_assets.storage.row_file import write_rows
from factory_assets.storage.tables.training_sets import TrainingSet

_MICROSECONDS_A_DAY = 86_400_000_000


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
    cycles = fingerprint(table, nodes) if fingerprint else fingerprint_nodes(spec, table, nodes)
    wanted = requested or frozenset(cycles)
    to_fit = frozenset(name for name in wanted if _is_to_fit(before, name, cycles[name], bundles))
    table, readers = add_columns(table, before, taking_part) if add_columns else (table, [])
    job = build_job(spec, table.drop(readers) if readers else table, as_known_at_utc)
    validation = spec.validation
    parts = mark_parts(
        table.column(spec.as_of), validation.holdout, validation.window, job.holdout_until_utc, spec.exam_span
    )
    return Plan(job, table, taking_part, cycles, to_fit, parts)


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


def _is_to_fit(before: LineStanding, segment: str, cycle: str, bundles: ModelFiles) -> bool:
    standing = before.segments.get(segment)
    if standing is None or standing.cycle != cycle or standing.outcome == "failed":
        return True
    champion = standing.champion
    if not standing.serves:
        return False
    return champion is None or not bundles.holds(champion.artefact_path, champion.artefact_sha256)


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
