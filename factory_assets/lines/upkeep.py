"""The upkeep of the lake: care for every table, and which versions something live needs.

Live are the champions, and those that they could be rolled back to: the ones before them, and every replaced one until it
is told whether its replacement paid. What they learnt from has to stay readable. So have the
versions of dbt's tables that belong together, which may be old while a test fails, what a held stage stands on, and what the
dbt project pins.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from factory_assets.contracts.maintenance import MaintenanceSpec, TableCare
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.lines.paybacks import find_unjudged
from factory_assets.storage.dbt.time_travel import Pin, Pins, TimeTravelError
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.delta.maintenance import maintain_table
from factory_assets.storage.tables.model_versions import MODEL_VERSIONS, PROMOTIONS
from factory_assets.storage.tables.publishes import Publishes
from factory_assets.storage.tables.training_sets import FEATURES_SCHEMA, MARTS_SCHEMA, read_input_names, training_set_name

_LIVE_MODELS = """
    with promoted as (
        select line, segment, version, max(sequence) as sequence
        from promotions
        where promoted
        group by all
    ),
    live as (
        select line, segment, version
        from promoted
        qualify row_number() over (partition by line, segment order by sequence desc) <= 2
    )
    select distinct line, training_set_version, feature_set_version, label_version
    from (from live union from replaced) join versions using (line, segment, version)
    order by all
"""
_REPLACED = pa.schema([("line", pa.string()), ("segment", pa.string()), ("version", pa.int64())])


def care_for_lake(
    lake: Lake, spec: MaintenanceSpec, lines: Sequence[ModelLineSpec], pins: Mapping[str, Pin] = MappingProxyType({})
) -> list[TableCare]:
    """One round over every declared table; what is needed is asked before anything is deleted.

    A table whose publish was interrupted is left to a later round: until the next build finishes it, no log names its files.
    One whose pin (of `pins`, by table) names no version that is there is left alone as well, and said to be.
    """
    needed = find_needed_versions(lake, lines)
    publishes = Publishes.read(lake)
    interrupted, held = ({record.table_name for record in found} for found in (publishes.pending, publishes.held))
    return [
        _care_for(lake, table, spec, needed.get(table, set()), Pins(pins), keeps_unlogged=table in held)
        for table in lake.files.table_names()
        if spec.covers(table) and table not in interrupted
    ]


def _care_for(
    lake: Lake, table: str, spec: MaintenanceSpec, needed: set[int], pins: Pins, keeps_unlogged: bool
) -> TableCare:
    try:
        pinned = pins.find(lake, lake.pin(table))
    except TimeTravelError as error:
        return TableCare(table, problem=f"left alone, since the dbt project pins it: {error}")
    return maintain_table(lake, table, spec, needed | ({pinned.version} if pinned else set()), keeps_unlogged)


def find_needed_versions(lake: Lake, lines: Iterable[ModelLineSpec]) -> dict[str, set[int]]:
    """Versions by table: inputs of each segment's champion and of those it may go back to, and what dbt last completed.

    The names of the inputs are those that the training set's own commit notes, so that a line which now declares another
    feature set, or is not declared at all, keeps what its champion was made from.

    Raises:
        LookupError: when a live model's inputs cannot be named, which older training sets without a line leave open.
    """
    needed: defaultdict[str, set[int]] = defaultdict(set)
    _add_published(needed, Publishes.read(lake))
    promotions, versions = lake.find(PROMOTIONS.name), lake.find(MODEL_VERSIONS.name)
    if promotions is None or versions is None:
        return dict(needed)
    declared = {line.name: line for line in lines}
    replaced = _find_replaced(lake, declared.values())
    for live in lake.query(_LIVE_MODELS, promotions=promotions, versions=versions, replaced=replaced).to_pylist():
        training_set, feature_set, labels = _input_names(lake, live, declared.get(live["line"]))
        needed[training_set].add(live["training_set_version"])
        needed[feature_set].add(live["feature_set_version"])
        needed[labels].add(live["label_version"])
    return dict(needed)


def _find_replaced(lake: Lake, lines: Iterable[ModelLineSpec]) -> pa.Table:
    rows = [
        {"line": line.name, "segment": found.replaced_segment, "version": found.replaced_version}
        for line in lines
        for found in find_unjudged(lake, line)
    ]
    return pa.Table.from_pylist(rows, schema=_REPLACED)


def _add_published(needed: defaultdict[str, set[int]], publishes: Publishes) -> None:
    for table, version in publishes.versions.items():
        needed[table].add(version)
    for record in publishes.held:
        if record.held_base_version is not None and record.held_base_version >= 0:
            needed[record.table_name].add(record.held_base_version)


def _input_names(lake: Lake, live: dict[str, Any], line: ModelLineSpec | None) -> tuple[str, str, str]:
    name = live["line"]
    noted = read_input_names(lake, name, live["training_set_version"])
    if noted is not None:
        return training_set_name(name), *noted
    if line is None:
        raise LookupError(
            f"model line {name!r} has a champion and no declaration, and its training set (version "
            f"{live['training_set_version']}) does not say what it was built from: declare the line again"
        )
    return training_set_name(name), f"{FEATURES_SCHEMA}/{line.feature_set}", f"{MARTS_SCHEMA}/{line.label.model}"
