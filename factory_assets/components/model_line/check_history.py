"""What Dagster's record says of asset checks. The only module that touches this half-internal part of Dagster.

`get_asset_check_execution_history` is the one reading that neither drops nor repeats failures on SQLite and PostgreSQL
(`get_event_records` needs a run-aware cursor on SQLite and returns nothing with an asset filter on PostgreSQL, and
`latest_by_key` may return a planned row that hides a failure). A test holds it to the pinned minor version.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

import dagster as dg
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)

from factory_assets.components.model_line.checks import CHAMPION_METADATA, DATA_AS_OF_METADATA
from factory_assets.contracts.model_line import CheckKind
from factory_assets.contracts.reports import FailedCheck

_COMPLETED = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}


def read_failed_checks(
    instance: dg.DagsterInstance, keys: Iterable[tuple[CheckKind, dg.AssetCheckKey]]
) -> list[FailedCheck]:
    """The checks whose newest completed evaluation failed, with the evidence they recorded."""
    newest = [(kind, _newest_completed(instance, key)) for kind, key in keys]
    return [_from_record(kind, record) for kind, record in newest if record is not None and _failed(record)]


def _newest_completed(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> AssetCheckExecutionRecord | None:
    records = instance.event_log_storage.get_asset_check_execution_history(key, limit=1, status=_COMPLETED)
    return records[0] if records else None


def _failed(record: AssetCheckExecutionRecord) -> bool:
    evaluation = record.evaluation
    return evaluation is not None and not evaluation.passed


def _from_record(kind: CheckKind, record: AssetCheckExecutionRecord) -> FailedCheck:
    evaluation = record.evaluation
    if evaluation is None:
        raise LookupError(f"check record {record.id} has no evaluation")
    metadata = {name: value.value for name, value in evaluation.metadata.items()}
    as_of = metadata.get(DATA_AS_OF_METADATA, record.create_timestamp)
    return FailedCheck(
        check=kind,
        evaluation_id=record.id,
        run_id=record.run_id,
        champion_version=int(str(metadata.get(CHAMPION_METADATA, 0))),
        data_as_of_utc=datetime.fromtimestamp(float(str(as_of)), UTC),
        summary=evaluation.description or "",
    )
