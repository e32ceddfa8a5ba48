"""What a dbt model asks to have written, and what it may not hold: the `delta` materialization's request and contract.

Rows that break the contract stop the write which is reading them; types that Delta cannot hold are refused before
anything is written.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from dbt.adapters.duckdb.utils import TargetConfig
from dbt_common.exceptions import DbtRuntimeError

from factory_assets.storage.dbt.published_query import PublishedQuery, encode_record
from factory_assets.storage.dbt.table_metadata import TableMetadata
from factory_assets.storage.sql import literal, quote_identifier

_STRATEGIES = ("overwrite", "append", "merge", "delete+insert", "replace_partitions", "microbatch")
_KEYED = ("merge", "delete+insert")
_SCHEMA_CHANGES = ("fail", "ignore", "append_new_columns", "sync_all_columns")

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
    is_full_refresh: bool = False
    on_schema_change: str = "fail"
    event_time: str | None = None
    # The span of a microbatch, from (included) and to (excluded).
    batch: tuple[datetime, datetime] | None = None
    # Metadata of the commit: what the model said when it was written.
    record: Mapping[str, str] = field(default_factory=dict)
    metadata: TableMetadata = field(default_factory=TableMetadata)

    @classmethod
    def from_target(cls, target: TargetConfig) -> "ModelWrite":
        """Read the materialization's request, and refuse settings that would have no effect."""
        config: Mapping[str, Any] = target.config
        write = cls(
            node=str(config["node"]),
            schema=str(target.relation.schema),
            name=str(target.relation.identifier),
            sql=str(config["sql"]),
            strategy=str(config["strategy"] or config.get("default_strategy") or "overwrite"),
            is_incremental=bool(config["is_incremental"]),
            is_full_refresh=bool(config.get("is_full_refresh")),
            unique_key=_names(config["unique_key"]),
            partition_by=_names(config["partition_by"]),
            not_null=_names(config["not_null"]),
            checks=_names(config["checks"]),
            on_schema_change=str(config.get("on_schema_change") or "fail"),
            event_time=config.get("event_time"),
            batch=_batch(config.get("batch")),
            record=encode_record(PublishedQuery.of_node(**config["query"])) if config.get("query") else {},
            metadata=TableMetadata.of_config(config),
        )
        _refuse_settings(write, config)
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


def _refuse_settings(write: ModelWrite, config: Mapping[str, Any]) -> None:
    if write.strategy not in _STRATEGIES:
        raise DbtRuntimeError(
            f"incremental_strategy {write.strategy!r} is not known: expected one of {', '.join(_STRATEGIES)}"
        )
    if (write.strategy in _KEYED) != bool(write.unique_key):
        raise DbtRuntimeError(
            f"incremental_strategy {' or '.join(map(repr, _KEYED))} and unique_key go together: set both or neither"
        )
    if write.strategy == "replace_partitions" and not write.partition_by:
        raise DbtRuntimeError("incremental_strategy 'replace_partitions' needs partition_by")
    if write.strategy == "microbatch" and not (write.event_time and write.batch):
        raise DbtRuntimeError(
            "incremental_strategy 'microbatch' needs event_time, begin and batch_size, and materialized='incremental', by "
            "which dbt knows that it has to run the model in batches"
        )
    if write.on_schema_change not in _SCHEMA_CHANGES:
        raise DbtRuntimeError(
            f"on_schema_change {write.on_schema_change!r} is not known: expected one of {', '.join(_SCHEMA_CHANGES)}"
        )
    for key in ("incremental_predicates", "predicates", "merge_update_columns", "merge_exclude_columns"):
        if config.get("unsupported", {}).get(key):
            raise DbtRuntimeError(f"{key} has no effect on a Delta table: remove it, or say it in the model's query")


def _batch(span: Any) -> tuple[datetime, datetime] | None:
    if not span:
        return None
    start, end = (_utc(span[key]) for key in ("event_time_start", "event_time_end"))
    return start, end


def _utc(moment: datetime | str) -> datetime:
    parsed = moment if isinstance(moment, datetime) else datetime.fromisoformat(moment)
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)


def _names(value: str | Iterable[str] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)
