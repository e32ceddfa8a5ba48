"""What a dbt model says of its table beside the rows: description, comments of columns, properties.

They are part of the commit that publishes the rows, so readers get them together or not at all; where only they changed,
the commit brings no file.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dbt_common.exceptions import DbtRuntimeError
from deltalake import DeltaTable

from factory_assets.storage.delta.log import Action
from factory_assets.storage.delta.maintenance import TARGET_FILE_SIZE, Z_ORDER
from factory_assets.storage.delta.table_stage import Stage

APPEND_ONLY = "delta.appendOnly"
# Each has an effect on what is written here. Others would promise what nobody keeps, or need a feature of the protocol.
_PROPERTIES = (APPEND_ONLY, "delta.dataSkippingNumIndexedCols", "delta.dataSkippingStatsColumns", TARGET_FILE_SIZE)
_BYTES_PER_MB = 1_000_000


@dataclass(frozen=True)
class TableMetadata:
    """What is declared. `description` and `comments` are None where `persist_docs` does not ask for them: they stay then."""

    description: str | None = None
    comments: Mapping[str, str] | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    z_order: tuple[str, ...] = ()

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> "TableMetadata":
        """From the materialization's request.

        Raises:
            DbtRuntimeError: A property that would have no effect, or a value that is none.
        """
        properties = _read_properties(config.get("table_properties") or {})
        size = config.get("target_file_size_mb")
        if size is not None:
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise DbtRuntimeError(f"target_file_size_mb is {size!r}: expected a whole number of megabytes, 1 or more")
            properties[TARGET_FILE_SIZE] = str(size * _BYTES_PER_MB)
        comments = config.get("comments")
        z_order = config.get("z_order") or ()
        return cls(
            config.get("description"),
            None if comments is None else {str(name).lower(): str(text) for name, text in comments.items()},
            properties,
            (z_order,) if isinstance(z_order, str) else tuple(z_order),
        )

    def written_with(self, current: DeltaTable | None) -> dict[str, str]:
        """The properties that count while files are written: the table's, and those declared now."""
        before = current.metadata().configuration if current is not None else {}
        return {name: value for name, value in {**before, **self.properties}.items() if name in _PROPERTIES}


def describe_stage(stage: Stage, current: DeltaTable | None, declared: TableMetadata) -> Stage:
    """The stage with what is declared; the same where the table says that already.

    Raises:
        DbtRuntimeError: The stage takes rows out of a table that may only be added to, or is clustered by no column of it.
    """
    staged = next((action["metaData"] for action in stage.table_actions if "metaData" in action), None)
    before = _metadata_of(current)
    base = staged or before
    assert base is not None, stage.state.place
    wanted = _declare(base, before, declared)
    _refuse_z_order(stage, declared.z_order)
    if stage.removed and wanted["configuration"].get(APPEND_ONLY) == "true":
        raise DbtRuntimeError(
            f"the table may only be added to ({APPEND_ONLY}), and this run replaces rows of it: use incremental_strategy "
            f"'append', or set table_properties {{{APPEND_ONLY}: 'false'}}"
        )
    if before is not None and _comparable(wanted) == _comparable(before):
        return stage
    others = [action for action in stage.table_actions if "metaData" not in action and "protocol" not in action]
    protocol = _protocol(stage, current, wanted)
    return replace(stage, table_actions=(*others, *([{"protocol": protocol}] if protocol else []), {"metaData": wanted}))


def _declare(base: Action, before: Action | None, declared: TableMetadata) -> dict[str, Any]:
    configuration = {**base["configuration"], **declared.properties}
    configuration.pop(Z_ORDER, None)
    if declared.z_order:
        configuration[Z_ORDER] = json.dumps(declared.z_order)
    description = base["description"] if declared.description is None else declared.description or None
    known = {column["name"]: column["metadata"] for column in _columns(before)}
    schema = json.loads(base["schemaString"])
    for column in schema["fields"]:
        # A change of columns comes from files, which know no comments.
        column["metadata"] = {**known.get(column["name"], {}), **column["metadata"]}
        if declared.comments is not None:
            column["metadata"].pop("comment", None)
            comment = declared.comments.get(column["name"].lower())
            if comment:
                column["metadata"]["comment"] = comment
    return {**base, "description": description, "configuration": configuration, "schemaString": json.dumps(schema)}


def _metadata_of(table: DeltaTable | None) -> dict[str, Any] | None:
    if table is None:
        return None
    found = table.metadata()
    return {
        "id": str(found.id),
        "name": found.name,
        "description": found.description,
        "format": {"provider": "parquet", "options": {}},
        "schemaString": table.schema().to_json(),
        "partitionColumns": list(found.partition_columns),
        "createdTime": found.created_time,
        "configuration": dict(found.configuration),
    }


def _columns(metadata: Action | None) -> list[Any]:
    return [] if metadata is None else list(json.loads(metadata["schemaString"])["fields"])


def _comparable(metadata: Action) -> tuple[object, ...]:
    kept = (metadata[key] for key in ("description", "partitionColumns", "configuration"))
    return (*kept, _columns(metadata))


def _protocol(stage: Stage, current: DeltaTable | None, wanted: Action) -> Action | None:
    """The protocol action of the commit. A table that lists its features has to list this one too."""
    staged: Action | None = next((action["protocol"] for action in stage.table_actions if "protocol" in action), None)
    if wanted["configuration"].get(APPEND_ONLY) != "true":
        return staged
    protocol = staged
    if protocol is None and current is not None:
        found = current.protocol()
        protocol = {
            "minReaderVersion": found.min_reader_version,
            "minWriterVersion": found.min_writer_version,
            "readerFeatures": found.reader_features,
            "writerFeatures": found.writer_features,
        }
    assert protocol is not None
    features = protocol.get("writerFeatures")
    if features is None or "appendOnly" in features:
        return staged
    return {**protocol, "writerFeatures": sorted([*features, "appendOnly"])}


def _refuse_z_order(stage: Stage, z_order: tuple[str, ...]) -> None:
    columns = [column.name for column in stage.state.fields if column.name not in stage.state.partition_by]
    unknown = [name for name in z_order if name not in columns]
    if unknown:
        raise DbtRuntimeError(f"z_order names {', '.join(unknown)}: expected columns out of {', '.join(columns)}")


def _read_properties(declared: Mapping[str, Any]) -> dict[str, str]:
    properties = {}
    for name, value in declared.items():
        if name.startswith(("delta.", "factory.")) and name not in _PROPERTIES:
            raise DbtRuntimeError(
                f"table_properties: {name} has no effect on what is written here: expected one of {', '.join(_PROPERTIES)}, "
                "or a name of your own without the prefix 'delta.'"
            )
        properties[str(name)] = str(value).lower() if isinstance(value, bool) else str(value)
    _refuse_values(properties)
    return properties


def _refuse_values(properties: Mapping[str, str]) -> None:
    if properties.get(APPEND_ONLY, "true") not in ("true", "false"):
        raise DbtRuntimeError(f"table_properties: {APPEND_ONLY} is {properties[APPEND_ONLY]!r}: expected true or false")
    for name, least in (("delta.dataSkippingNumIndexedCols", -1), (TARGET_FILE_SIZE, 1)):
        value = properties.get(name)
        if value is not None and not (value.removeprefix("-").isdecimal() and int(value) >= least):
            raise DbtRuntimeError(f"table_properties: {name} is {value!r}: expected a whole number, {least} or more")
