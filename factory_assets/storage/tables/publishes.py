"""The one writer of `ops/publishes`: which versions of dbt's tables belong together, and what is on its way to be published.

One row for each table that dbt makes, and the whole table is replaced by each commit, so that any version of it is one
consistent state:

- `version`: the table's version after the last *completed* run that built it. All rows' versions together are what
  downstream readers pin.
- `pending_…`: a publish that has begun. It is written before the first table is touched, so that a process killed between
  two tables leaves enough behind to finish the set.
- `held_…`: a stage that was refused, for a look at its rows.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, write_deltalake

from factory_assets.storage.delta.lake import PUBLISHES, UTC_TIMESTAMP, Lake, PinnedTable, TableSpec
from factory_assets.storage.delta.log import Action

_SPEC = TableSpec(
    PUBLISHES,
    pa.schema(
        [
            ("table_name", pa.string()),
            ("version", pa.int64()),
            ("run_id", pa.string()),
            ("published_at_utc", UTC_TIMESTAMP),
            ("pending_run_id", pa.string()),
            ("pending_is_complete", pa.bool_()),
            ("pending_stage", pa.string()),
            ("pending_version", pa.int64()),
            ("pending_commit", pa.string()),
            ("held_run_id", pa.string()),
            ("held_stage", pa.string()),
            ("held_base_version", pa.int64()),
            ("held_reason", pa.string()),
            ("held_commit", pa.string()),
        ]
    ),
    keys=("table_name",),
)


@dataclass(frozen=True)
class TableRecord:
    """What is known of one table that dbt makes; the fields are those of the table's columns."""

    table_name: str
    version: int | None = None
    run_id: str | None = None
    published_at_utc: Any = None
    pending_run_id: str | None = None
    pending_is_complete: bool | None = None
    pending_stage: str | None = None
    pending_version: int | None = None
    pending_commit: str | None = None
    held_run_id: str | None = None
    held_stage: str | None = None
    held_base_version: int | None = None
    held_reason: str | None = None
    held_commit: str | None = None

    def without_pending(self) -> "TableRecord":
        """The same, with nothing on its way."""
        return replace(
            self,
            pending_run_id=None,
            pending_is_complete=None,
            pending_stage=None,
            pending_version=None,
            pending_commit=None,
        )

    def without_held(self) -> "TableRecord":
        """The same, with nothing held."""
        return replace(self, held_run_id=None, held_stage=None, held_base_version=None, held_reason=None, held_commit=None)


@dataclass(frozen=True)
class Publishes:
    """One state of `ops/publishes`, and the way to the next."""

    lake: Lake
    records: Mapping[str, TableRecord]
    pinned: PinnedTable | None

    @classmethod
    def read(cls, lake: Lake, version: int | None = None) -> "Publishes":
        """The state as it is now, or as it was at a version; only the newest can be written on."""
        pinned = lake.find(_SPEC.name, version)
        rows = [] if pinned is None else lake.query("select * from t", t=pinned).to_pylist()
        return cls(lake, {row["table_name"]: TableRecord(**row) for row in rows}, pinned)

    @property
    def versions(self) -> dict[str, int]:
        """The version of each table in the last completed run that built it."""
        return {name: record.version for name, record in self.records.items() if record.version is not None}

    @property
    def pending(self) -> list[TableRecord]:
        """Publishes that have begun and not ended."""
        return [record for record in self.records.values() if record.pending_stage is not None]

    @property
    def held(self) -> list[TableRecord]:
        """Stages that were refused."""
        return [record for record in self.records.values() if record.held_stage is not None]

    @property
    def stages(self) -> set[str]:
        """Stages that are still needed."""
        named = [(record.pending_stage, record.held_stage) for record in self.records.values()]
        return {stage for pair in named for stage in pair if stage is not None}

    def record(self, name: str) -> TableRecord:
        """What is known of a table; a blank record when that is nothing."""
        return self.records.get(name, TableRecord(name))

    def write(self, changed: Iterable[TableRecord]) -> "Publishes":
        """Commits the next state: the records of this one, with `changed` in their place.

        Raises:
            CommitFailedError: Another process wrote since this state was read.
        """
        records = {**self.records, **{record.table_name: record for record in changed}}
        if records == self.records:
            return self
        rows = [vars(record) for _, record in sorted(records.items())]
        data = pa.Table.from_pylist(rows, schema=_SPEC.schema)
        if self.pinned is None:
            self.lake.replace(_SPEC, data)
        else:
            # Through the handle that was read, and only as the next version: a conflict is never tried again.
            once = CommitProperties(max_commit_retries=0)
            write_deltalake(self.pinned.handle, data, mode="overwrite", commit_properties=once)
        return Publishes.read(self.lake)


def encode_commit(actions: Sequence[Action]) -> str:
    """A commit as the text that a Delta log holds."""
    return "\n".join(json.dumps(action, separators=(",", ":")) for action in actions)


def decode_commit(text: str) -> list[dict[str, Any]]:
    """The actions of `encode_commit`."""
    return [json.loads(line) for line in text.split("\n") if line]
