"""What Dagster's record says of asset checks. Only this module and check_verdicts.py touch that half-internal part.

`get_asset_check_execution_history` is the one reading that neither drops nor repeats failures on SQLite and PostgreSQL
(`get_event_records` needs a run-aware cursor on SQLite and returns nothing with an asset filter on PostgreSQL, and
`latest_by_key` may return a planned row that hides a failure). A test holds it to the pinned minor version.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord

from factory_assets.components.check_verdicts import COMPLETED, read_json
from factory_assets.components.model_line.checks import CHAMPION_METADATA, DATA_AS_OF_METADATA
from factory_assets.components.naming import FAILING_SEGMENTS_METADATA
from factory_assets.contracts.model_line import CheckKind
from factory_assets.contracts.retraining import FailedCheck
from factory_assets.contracts.segments import ALL
from factory_assets.core.retraining.confirmation import Verdict, confirm_failure

SEGMENT_EFFECTS_METADATA = "segment_effects"
# The monitor judges hourly, and the same data may be judged many times: this many verdicts are looked back for one state.
_VERDICTS_A_STATE = 30


@dataclass(frozen=True)
class JudgedModel:
    """What an own check is about: the serving version (0: none), the newest data, and when the line was last answered.

    `data_as_of_utc` is of the factory clock, `answered_utc` of the wall clock.
    """

    champion_version: int
    data_as_of_utc: datetime
    answered_utc: datetime | None


def read_failed_checks(
    instance: dg.DagsterInstance, keys: Iterable[tuple[CheckKind, dg.AssetCheckKey]], confirm: int = 1
) -> list[FailedCheck]:
    """The checks that failed on the newest `confirm` states of the data, with the evidence they recorded last."""
    verdicts = ([_to_verdict(kind, record) for record in _read_completed(instance, key, confirm)] for kind, key in keys)
    confirmed = (confirm_failure(found, confirm) for found in verdicts)
    return [failed for failed in confirmed if failed is not None]


def read_failed_own_checks(
    instance: dg.DagsterInstance, keys: Mapping[str, dg.AssetCheckKey], confirm: int, model: JudgedModel
) -> list[FailedCheck]:
    """The user's own checks that failed on the newest `confirm` evaluations, as failures of the model that serves.

    Such a check knows no model. A verdict from before the line's newest answer is about the model before it; a later one
    counts again. Its state of the data is the line's, unless its metadata says `data_as_of`; nor need it name segments.
    """
    failed = []
    for name, key in keys.items():
        verdicts = [_of_model(_to_verdict(name, record), model) for record in _read_completed(instance, key, confirm)]
        found = confirm_failure(verdicts, confirm)
        if found is not None:
            failed.append(replace(found, data_as_of_utc=model.data_as_of_utc))
    return failed


def _of_model(verdict: Verdict, model: JudgedModel) -> Verdict:
    failed = verdict.failed
    if failed is None:
        return verdict
    judged = failed.evaluated_at_utc
    is_stale = model.answered_utc is not None and judged is not None and judged <= model.answered_utc
    return replace(verdict, failed=None if is_stale else replace(failed, champion_version=model.champion_version))


def _read_completed(instance: dg.DagsterInstance, key: dg.AssetCheckKey, confirm: int) -> list[AssetCheckExecutionRecord]:
    limit = 1 if confirm == 1 else confirm * _VERDICTS_A_STATE
    records = instance.event_log_storage.get_asset_check_execution_history(key, limit=limit, status=COMPLETED)
    return [record for record in records if record.evaluation is not None]


def _to_verdict(kind: str, record: AssetCheckExecutionRecord) -> Verdict:
    evaluation = record.evaluation
    if evaluation is None or record.event is None:
        raise LookupError(f"check record {record.id} has no evaluation")
    metadata = {name: value.value for name, value in evaluation.metadata.items()}
    as_of = datetime.fromtimestamp(float(str(metadata.get(DATA_AS_OF_METADATA, record.create_timestamp))), UTC)
    if evaluation.passed:
        return Verdict(as_of, None)
    failed = FailedCheck(
        check=kind,
        evaluation_id=record.id,
        run_id=record.run_id,
        champion_version=int(str(metadata.get(CHAMPION_METADATA, 0))),
        data_as_of_utc=as_of,
        summary=evaluation.description or "",
        segments=tuple(read_json(metadata, FAILING_SEGMENTS_METADATA) or (ALL,)),
        evaluated_at_utc=datetime.fromtimestamp(record.event.timestamp, UTC),
        effects=read_json(metadata, SEGMENT_EFFECTS_METADATA) or {},
    )
    return Verdict(as_of, failed)
