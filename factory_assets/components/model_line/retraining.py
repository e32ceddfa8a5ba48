"""The retrain job of a line, and the sensor that requests it when a check has failed."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from factory_assets.components.model_line.check_history import read_failed_checks
from factory_assets.components.model_line.checks import check_keys
from factory_assets.components.model_line.opening import open_stores
from factory_assets.components.naming import (
    ATTEMPT_TAG,
    CAUSE_KEYS_TAG,
    CAUSE_TAG,
    CHECK_TAG_PREFIX,
    DAILY_JOB,
    LINE_TAG,
    LOST_TAG,
    MONITOR_JOB,
    REQUEST_TAG,
    models_key,
    retrain_job,
    retrain_sensor,
    training_set_key,
)
from factory_assets.components.run_states import ENDED, UNFINISHED
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.reports import LedgerEntry, RetrainDecision, RetrainState
from factory_assets.core.retraining import cause_key, decide_retraining
from factory_assets.lines.stores import LineStores
from factory_assets.resources import ClockResource, LakeResource, MlflowResource
from factory_assets.settings import FactorySettings

# What a step says when its process is being shut down under it.
_INTERRUPTIONS = {"DagsterExecutionInterruptedError", "KeyboardInterrupt", "SystemExit"}


def build_retrain_job(spec: ModelLineSpec) -> UnresolvedAssetJobDefinition:
    """Training set, models (with the newest days scored again), and all checks of the line again, in that order.

    It does not rebuild the feature set: the evidence that started the retrain stays, and ends with a new verdict.
    """
    built = dg.AssetSelection.assets(training_set_key(spec.name), models_key(spec.name))
    return dg.define_asset_job(
        retrain_job(spec.name),
        selection=built | dg.AssetSelection.checks(*check_keys(spec).values()),
        tags={LINE_TAG: spec.name},
        description=f"Retrains {spec.name}, lets the gate decide, scores the newest days again and checks again.",
        executor_def=dg.in_process_executor,
    )


def build_retraining_sensor(spec: ModelLineSpec) -> dg.SensorDefinition:
    """Acts on failed checks through `decide_retraining`; the ledger is written before the run is asked for.

    Killed between the two, the next tick finds the request without a run and asks again under the same run key, which
    Dagster never starts twice.
    """

    @dg.sensor(
        name=retrain_sensor(spec.name),
        job_name=retrain_job(spec.name),
        minimum_interval_seconds=FactorySettings().sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Starts {retrain_job(spec.name)} when {', '.join(spec.retrain.triggers)} failed; once for each cause.",
    )
    def retraining_sensor(
        context: dg.SensorEvaluationContext, lake: LakeResource, mlflow: MlflowResource, clock: ClockResource
    ) -> dg.RunRequest | dg.SkipReason:
        stores = open_stores(spec, lake, mlflow)
        now = clock.open().now()
        record_ended_runs(context.instance, stores)
        decision = decide(context.instance, stores, now)
        if not decision.request:
            return dg.SkipReason(decision.reason)
        stores.ledger.record(_requested(spec, decision, now))
        return dg.RunRequest(run_key=decision.run_key, tags=_explain(decision))

    return retraining_sensor


def decide(instance: dg.DagsterInstance, stores: LineStores, now: datetime) -> RetrainDecision:
    """What is to be done now, from Dagster's record and the ledger; reads only."""
    spec = stores.spec
    judging = _find_run(instance, (DAILY_JOB, MONITOR_JOB))
    if judging is not None:
        return RetrainDecision(False, f"Run {judging} is still judging: all its verdicts are taken together.")
    champion = stores.versions.champion(spec.name)
    serving = champion.version if champion else 0
    entries = stores.ledger.entries(spec.name)
    unanswered = unanswered_causes(entries)
    # A failure of a model that no longer serves was answered by whatever replaced it, unless that retrain was cut off
    # after its promotion: then its last steps are still to be done.
    failed = [
        check
        for check in read_failed_checks(instance, check_keys(spec).items())
        if check.champion_version == serving or cause_key(spec.name, check) in unanswered
    ]
    active = _find_run(instance, (retrain_job(spec.name),))
    return decide_retraining(spec.name, spec.retrain, failed, entries, now, datetime.now(UTC), active)


def unanswered_causes(entries: Sequence[LedgerEntry]) -> set[str]:
    """Causes that were requested and have no answer yet."""
    answered = {cause for entry in entries if entry.state in ("promoted", "kept_champion") for cause in entry.causes}
    return {cause for entry in entries for cause in entry.causes} - answered


def record_ended_runs(instance: dg.DagsterInstance, stores: LineStores) -> None:
    """A requested run that ended without an answer is written down as an attempt in vain, so that it is tried again."""
    entries = stores.ledger.entries(stores.spec.name)
    answered = {entry.run_key for entry in entries if entry.state != "requested"}
    for entry in entries:
        if entry.run_key in answered:
            continue
        runs = instance.get_runs(dg.RunsFilter(tags={REQUEST_TAG: entry.run_key}))
        if runs and all(run.status in ENDED for run in runs):
            reason = f"run {runs[0].run_id} ended as {runs[0].status.value.lower()}"
            state: RetrainState = "failed" if _went_wrong(instance, runs[0]) else "lost"
            ended = replace(entry, state=state, recorded_at_utc=datetime.now(UTC), reason=reason, run_id=runs[0].run_id)
            stores.ledger.record(ended)


def _went_wrong(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the run itself went wrong (success without an answer included), and was not lost with the factory."""
    if run.status != dg.DagsterRunStatus.FAILURE:
        return True
    failures = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    errors = [log.get_dagster_event().step_failure_data.error for log in failures]
    if errors:
        return any(error is None or error.cls_name not in _INTERRUPTIONS for error in errors)
    return LOST_TAG not in run.tags


def _find_run(instance: dg.DagsterInstance, jobs: tuple[str, ...]) -> str | None:
    """A queued or running run of one of `jobs`."""
    for job in jobs:
        runs = instance.get_runs(dg.RunsFilter(job_name=job, statuses=UNFINISHED), limit=1)
        if runs:
            return str(runs[0].run_id)
    return None


def _requested(spec: ModelLineSpec, decision: RetrainDecision, now: datetime) -> LedgerEntry:
    return LedgerEntry(
        line=spec.name,
        run_key=decision.run_key,
        attempt=decision.attempt,
        causes=decision.causes,
        state="requested",
        at_utc=now,
        recorded_at_utc=datetime.now(UTC),
        reason=decision.reason,
    )


def _explain(decision: RetrainDecision) -> dict[str, str]:
    """Tags that answer on the runs page: why this run, which evaluation said so, the how manieth try."""
    evaluations = {f"{CHECK_TAG_PREFIX}{check.check}": f"{check.evaluation_id}@{check.run_id}" for check in decision.checks}
    return {
        REQUEST_TAG: decision.run_key,
        ATTEMPT_TAG: str(decision.attempt),
        CAUSE_TAG: ", ".join(sorted({check.check for check in decision.checks})),
        CAUSE_KEYS_TAG: " ".join(decision.causes),
        **evaluations,
    }
