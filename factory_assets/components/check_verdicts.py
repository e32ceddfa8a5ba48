"""The newest verdict of any asset check, by Dagster's record; see check_history.py on why it is read in this way."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)

from factory_assets.components.naming import FAILING_SEGMENTS_METADATA

COMPLETED = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}


@dataclass(frozen=True)
class NewestVerdict:
    """What a check said last. `failing_segments` is 0 for a check that has none, or one for all."""

    key: dg.AssetCheckKey
    passed: bool
    is_warning: bool
    summary: str
    failing_segments: int


def read_newest_verdicts(instance: dg.DagsterInstance, keys: Sequence[dg.AssetCheckKey]) -> Iterator[NewestVerdict]:
    """The newest completed evaluation of each check that has one.

    One query finds the newest record of all; a record that is only planned hides the evaluation before it, so that only
    those checks are asked for by themselves.
    """
    storage = instance.event_log_storage
    newest = storage.get_latest_asset_check_execution_by_key(list(keys))
    for key in keys:
        record = newest.get(key)
        if record is not None and record.status not in COMPLETED:
            history = storage.get_asset_check_execution_history(key, limit=1, status=COMPLETED)
            record = history[0] if history else None
        if record is not None and record.evaluation is not None:
            yield _to_verdict(key, record)


def read_json(metadata: Mapping[str, Any], name: str) -> Any:
    """A list or mapping, as JSON metadata or as text that holds JSON; None where there is none."""
    value = metadata.get(name)
    return json.loads(value) if isinstance(value, str) else value


def _to_verdict(key: dg.AssetCheckKey, record: AssetCheckExecutionRecord) -> NewestVerdict:
    evaluation = record.evaluation
    if evaluation is None:
        raise LookupError(f"check record {record.id} has no evaluation")
    listed = read_json({name: value.value for name, value in evaluation.metadata.items()}, FAILING_SEGMENTS_METADATA) or []
    return NewestVerdict(
        key=key,
        passed=evaluation.passed,
        is_warning=evaluation.severity == dg.AssetCheckSeverity.WARN,
        summary=evaluation.description or "it says no more",
        failing_segments=0 if listed == ["all"] else len(listed),
    )
