"""Commits written as the Delta protocol says, for what delta-rs has no call: file actions prepared beforehand, by version.

`create_write_transaction` of delta-rs takes neither new columns beside kept files, nor another partitioning, nor the
protocol feature that a column without time zone needs (decision 0011). A commit made here has the version that it was
prepared for, or none: whoever committed that version first has won, and nothing is merged on the quiet.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from deltalake import DeltaTable

from factory_assets.storage.delta.table_place import TablePlace

Action: TypeAlias = Mapping[str, Any]

# What a commit may touch without knowing of it. Row tracking and the like want fields that are not written here.
_WRITABLE_FEATURES = frozenset({"appendOnly", "invariants", "timestampNtz", "changeDataFeed", "checkConstraints"})


class VersionTakenError(Exception):
    """Another writer has committed the version that a commit was prepared for."""


class UnwritableTableError(Exception):
    """A table that uses a Delta feature which a prepared commit would break."""


def read_commit(place: TablePlace, version: int) -> list[dict[str, Any]] | None:
    """The actions of one commit in their order; None when there is no such version (yet, or any more)."""
    text = place.read_text(_commit_path(version))
    # Not `splitlines`: statistics may hold a text with U+0085 or U+2028, which JSON leaves as they are.
    return None if text is None else [json.loads(line) for line in text.split("\n") if line]


def write_commit(place: TablePlace, version: int, actions: Iterable[Action]) -> None:
    """Commits `actions` as exactly `version`: it is there whole, after a power cut too, or not at all.

    Raises:
        VersionTakenError: The version exists; nothing was written.
    """
    # Not escaped: delta-rs reads the escaped pair of U+20000 as U+10000, and a partition would take another's place.
    text = "".join(json.dumps(action, separators=(",", ":"), ensure_ascii=False) + "\n" for action in actions)
    try:
        place.create_text(_commit_path(version), text)
    except FileExistsError:
        raise VersionTakenError(f"version {version} of {place.table_name} was committed by another writer") from None


def refuse_unwritable(table: DeltaTable) -> None:
    """Refuse a table that a prepared commit could break.

    Raises:
        UnwritableTableError: naming the feature.
    """
    protocol = table.protocol()
    unknown = sorted(set(protocol.writer_features or ()) - _WRITABLE_FEATURES)
    if unknown:
        raise UnwritableTableError(
            f"table {table.table_uri.rstrip('/')} uses the Delta feature {unknown[0]!r}, which a dbt model cannot "
            "keep up: make the table anew without it (delete its folder and build again), or write it with the tool that "
            "made it"
        )


def _commit_path(version: int) -> str:
    return f"_delta_log/{version:020}.json"
