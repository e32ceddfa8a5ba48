"""What is recorded with each published table: the query of the model that made it, beside the commit.

The query itself and not a hash of it: whoever compares it later takes both sides through the same parser, so a newer
parser raises no false alarm, and the two queries can be shown beside each other.
"""

import ast
import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

RECORD_KEY = "dbt_query"


@dataclass(frozen=True)
class PublishedQuery:
    """One dbt model as it was compiled when its table was written.

    `full` is the query of a full refresh, `incremental` that of an incremental run (None when none was compiled). `columns`
    are the contract: each column's type and constraints in words. `settings` are those that decide what a run replaces.
    """

    full: str
    incremental: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_node(cls, full: str, incremental: str | None, node: Mapping[str, Any]) -> "PublishedQuery":
        """From a node as dbt's manifest has it; the same on the writing side and on the reading side."""
        if node.get("language") == "python":
            full, incremental = normalize_python(full), None if incremental is None else normalize_python(incremental)
        return cls(full, incremental, _contract_columns(node), _settings(node["config"]))


def normalize_python(text: str) -> str:
    """A Python model without its comments and layout; the text itself where it does not parse."""
    try:
        return ast.dump(ast.parse(text))
    except SyntaxError:
        return text


def encode_record(query: PublishedQuery) -> dict[str, str]:
    """Metadata of a commit that say what made it; about a fifth of the query's length."""
    text = json.dumps(asdict(query), sort_keys=True)
    return {RECORD_KEY: base64.b64encode(zlib.compress(text.encode(), 9)).decode("ascii")}


def decode_record(metadata: Mapping[str, object]) -> PublishedQuery | None:
    """The record among the metadata of one commit; None when the commit carries none."""
    encoded = metadata.get(RECORD_KEY)
    if not isinstance(encoded, str):
        return None
    return PublishedQuery(**json.loads(zlib.decompress(base64.b64decode(encoded))))


def _contract_columns(node: Mapping[str, Any]) -> dict[str, str]:
    config = node["config"]
    if not (config.get("contract") or {}).get("enforced"):
        return {}
    columns = {}
    for column in node["columns"].values():
        said = [str(column.get("data_type") or "").lower(), *map(_in_words, column.get("constraints") or ())]
        columns[str(column["name"]).lower()] = ", ".join(said)
    for constraint in node.get("constraints") or ():
        for name in constraint.get("columns") or columns:
            columns[name.lower()] += f", {_in_words(constraint)}"
    return columns


def _in_words(constraint: Mapping[str, Any]) -> str:
    kind = getattr(constraint["type"], "value", constraint["type"])
    return f"{kind} {constraint.get('expression') or ''}".strip()


def _settings(config: Mapping[str, Any]) -> dict[str, str]:
    """What an incremental run replaces. How the files are laid out is no meaning, unless partitions are what is replaced."""
    strategy = str(config.get("incremental_strategy") or "overwrite")
    settings = {"incremental_strategy": strategy, "unique_key": _listed(config.get("unique_key"))}
    if strategy == "replace_partitions":
        settings["partition_by"] = _listed(config.get("partition_by"))
    return {name: value for name, value in settings.items() if value}


def _listed(value: Any) -> str:
    return value if isinstance(value, str) else ", ".join(value or ())
