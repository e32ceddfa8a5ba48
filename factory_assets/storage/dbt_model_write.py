"""What a dbt model asks to have written, and what it may not hold: the `delta` materialization's request and contract.

Rows that break the contract stop the write which is reading them; types that Delta cannot hold, and columns that an
incremental run would change, are refused before anything is written.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import duckdb
from dbt.adapters.duckdb.utils import TargetConfig
from dbt_common.exceptions import DbtRuntimeError
from deltalake import DeltaTable

from factory_assets.storage.published_query import PublishedQuery, encode_record
from factory_assets.storage.snapshots import duckdb_type
from factory_assets.storage.sql import literal, quote_identifier

_STRATEGIES = ("overwrite", "merge", "replace_partitions")

# What Delta holds without loss, by DuckDB's own type ids.
_DELTA_TYPES = frozenset(
    {"boolean", "tinyint", "smallint", "integer", "bigint", "float", "double", "decimal", "varchar", "blob", "date"}
    | {"timestamp", "timestamp with time zone", "list", "struct", "map"}
)
_REMEDIES: Mapping[str, str] = {
    "null": "give the null a type, such as cast(null as varchar)",
    "hugeint": "cast it to bigint (sum() of integers is a hugeint)",
    "uhugeint": "cast it to bigint or decimal(38, 0)",
    "interval": "cast it to a number of seconds, such as epoch(x)",
    "time": "cast it to varchar, or to a number of seconds",
    "time with time zone": "cast it to varchar",
    "timestamp_ns": "cast it to timestamp, which holds microseconds",
    "timestamp_ms": "cast it to timestamp",
    "timestamp_s": "cast it to timestamp",
    "utinyint": "cast it to smallint: Delta has no unsigned integers",
    "usmallint": "cast it to integer: Delta has no unsigned integers",
    "uinteger": "cast it to bigint: Delta has no unsigned integers",
    "ubigint": "cast it to bigint: Delta has no unsigned integers",
    "array": "cast it to a list, such as x::double[]",
}
_DEFAULT_REMEDY = "cast it to varchar"


@dataclass(frozen=True)
class ModelWrite:
    """What the `delta` materialization asks for: which rows, to which table, replacing what."""

    node: str
    schema: str
    name: str
    sql: str
    strategy: str
    is_incremental: bool
    unique_key: tuple[str, ...]
    partition_by: tuple[str, ...]
    not_null: tuple[str, ...]
    checks: tuple[str, ...]
    # Metadata of the commit: what the model said when it was written.
    record: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_target(cls, target: TargetConfig) -> "ModelWrite":
        """Read the materialization's request, and refuse settings that would have no effect."""
        config: Mapping[str, Any] = target.config
        write = cls(
            node=str(config["node"]),
            schema=str(target.relation.schema),
            name=str(target.relation.identifier),
            sql=str(config["sql"]),
            strategy=str(config["strategy"] or "overwrite"),
            is_incremental=bool(config["is_incremental"]),
            unique_key=_names(config["unique_key"]),
            partition_by=_names(config["partition_by"]),
            not_null=_names(config["not_null"]),
            checks=_names(config["checks"]),
            record=encode_record(PublishedQuery.of_node(**config["query"])) if config.get("query") else {},
        )
        if write.strategy not in _STRATEGIES:
            raise DbtRuntimeError(
                f"incremental_strategy {write.strategy!r} is not known: expected one of {', '.join(_STRATEGIES)}"
            )
        if (write.strategy == "merge") != bool(write.unique_key):
            raise DbtRuntimeError("incremental_strategy 'merge' and unique_key go together: set both or neither")
        if write.strategy == "replace_partitions" and not write.partition_by:
            raise DbtRuntimeError("incremental_strategy 'replace_partitions' needs partition_by")
        return write


def checked_sql(write: ModelWrite) -> str:
    """Wrap the model's query so that a row which breaks the contract stops the write that is reading it."""
    replacements = []
    for column in dict.fromkeys([*write.not_null, *write.partition_by]):
        name = quote_identifier(column)
        cases = ""
        if column in write.not_null:
            message = f"contract of {write.name}: column {column} is null, and its constraint is not_null"
            cases += f"WHEN {name} IS NULL THEN error({literal(message)}) "
        if column in write.partition_by:
            # delta-rs would write it into the partition of the nulls.
            message = f"partition_by column {column} holds an empty text, which would come back as null"
            cases += f"WHEN CAST({name} AS VARCHAR) = '' THEN error({literal(message)}) "
        replacements.append(f"CASE {cases}ELSE {name} END AS {name}")
    stars = f"* REPLACE ({', '.join(replacements)})" if replacements else "*"
    checks = [
        f"CASE WHEN coalesce(({check}), TRUE) THEN TRUE "
        f"ELSE error({literal(f'contract of {write.name}: a row breaks the check {check}')}) END"
        for check in write.checks
    ]
    # The line breaks keep a comment at the end of the model from swallowing the bracket.
    return f"SELECT {stars} FROM (\n{write.sql}\n) AS model_rows" + (f" WHERE {' AND '.join(checks)}" if checks else "")


def refuse_types(rows: Any) -> None:
    """Refuse columns that Delta would lose or change, each with the cast that helps."""
    complaints = []
    for column, kind in zip(rows.columns, rows.types, strict=True):
        unknown = _types_unknown_to_delta(kind)
        if unknown:
            remedy = _REMEDIES.get(unknown[0], _DEFAULT_REMEDY)
            complaints.append(f"column {column} is of type {kind}, which Delta cannot hold: {remedy}")
    if complaints:
        raise DbtRuntimeError("\n".join(complaints))


def _types_unknown_to_delta(kind: Any) -> list[str]:
    if kind.id not in _DELTA_TYPES:
        return [str(kind.id)]
    # JSON has varchar's id, and a decimal's children are its precision and scale.
    if str(kind) == "JSON":
        return ["json"]
    nested = [child for _, child in kind.children] if kind.id in ("list", "struct", "map") else []
    return [unknown for child in nested for unknown in _types_unknown_to_delta(child)]


def refuse_changed_columns(cursor: duckdb.DuckDBPyConnection, current: DeltaTable, rows: Any) -> None:
    """Refuse an incremental run whose columns are not the table's."""
    names = ", ".join(
        f"CAST(NULL AS {duckdb_type(field)}) AS {quote_identifier(field.name)}" for field in current.schema().fields
    )
    expected = cursor.sql(f"SELECT {names}")
    before = dict(zip(expected.columns, map(str, expected.types), strict=True))
    after = dict(zip(rows.columns, map(str, rows.types), strict=True))
    if before != after:
        changes = [f"{name}: {before.get(name, 'absent')} -> {after.get(name, 'absent')}" for name in before | after
                   if before.get(name) != after.get(name)]  # fmt: skip
        raise DbtRuntimeError(
            f"the model's columns differ from the table's ({', '.join(changes)}): an incremental run cannot change "
            "them, so run it once with --full-refresh"
        )


def _names(value: str | Iterable[str] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)
