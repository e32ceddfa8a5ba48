"""The retrain job of a line, and the sensor that requests it when a check has failed."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.scheduler.instigation import SensorInstigatorData
from dagster._utils.schedules import reverse_cron_string_iterator

from factory_assets.components.ledger_asset import show_ledger
from factory_assets.components.model_line.check_history import JudgedModel, read_failed_checks, read_failed_own_checks
from factory_assets.components.model_line.checks import check_keys
from factory_assets.components.model_line.fleet import fleet_check_keys
from factory_assets.components.model_line.opening import open_stores
from factory_assets.components.model_line.own_checks import OwnChecks
from factory_assets.components.model_line.retrain_runs import read_run_facts, stop_run
from factory_assets.components.naming import (
    ATTEMPT_TAG,
    CAUSE_TAG,
    CHECK_TAG_PREFIX,
    DAILY_JOB,
    LINE_TAG,
    MONITOR_JOB,
    REQUEST_TAG,
    STRATEGY_TAG,
    models_key,
    models_step,
    retrain_job,
    retrain_sensor,
    training_set_key,
)
from factory_assets.components.run_states import UNFINISHED
from factory_assets.components.warm_runs import start_runs_warm
from factory_assets.contracts.budget import RetrainBudgetSpec
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.retraining import (
    IN_FLIGHT,
    LedgerEntry,
    RetrainDecision,
    RetrainHistory,
    RetrainRequest,
)
from factory_assets.contracts.segments import ALL
from factory_assets.core.incidents.lifecycle import hold_back
from factory_assets.core.retraining import Situation, decide_retraining
from factory_assets.lines.judging.judgement import NEVER, newest_feature_row
from factory_assets.lines.retrain_situation import (
    add_effects,
    read_capacity,
    read_due,
    read_payments,
    read_price,
    read_rows_a_day,
    read_serving,
)
from factory_assets.lines.stores import LineStores
from factory_assets.resources import ClockResource, LakeResource, MlflowResource
from factory_assets.settings import FactorySettings
from factory_assets.storage.tables.incidents import Incidents

# A judging run that takes longer than this is stuck, and is not waited for.
_JUDGING_PATIENCE = timedelta(minutes=30)
# A sensor that has not ticked for so long is stopped, or its line is gone.
_SENSOR_PATIENCE = timedelta(minutes=10)


def build_retrain_job(spec: ModelLineSpec) -> UnresolvedAssetJobDefinition:
    """Training set, models (with the newest days scored again), and all checks of the line again, in that order.

    It does not rebuild the feature set: the evidence that started the retrain stays, and ends with a new verdict.
    """
    built = dg.AssetSelection.assets(training_set_key(spec.name), models_key(spec.name))
    return dg.define_asset_job(
        retrain_job(spec.name),
        selection=built | dg.AssetSelection.checks(*check_keys(spec).values(), *fleet_check_keys(spec)),
        tags={LINE_TAG: spec.name},
        description=f"Retrains {spec.name}, lets the gate decide, scores the newest days again and checks again.",
        executor_def=dg.in_process_executor,
    )


def build_retraining_sensor(
    spec: ModelLineSpec,
    budget: RetrainBudgetSpec | None = None,
    sources: tuple[str, ...] = (),
    own_checks: OwnChecks | None = None,
) -> dg.SensorDefinition:
    """Acts on failed checks through `decide_retraining`; the ledger is written before a run is asked for.

    Killed between the two, the next tick finds the request without a run and asks again under the same run key, which
    Dagster never starts twice. The cursor is the ledger's newest commit that the asset of the ledger has shown; nothing is
    decided by it.

    Args:
        spec: the line.
        budget: limits of the factory; None when none are declared, and then the ledger has no asset either.
        sources: whose incidents hold a failure back: broken is not drifted.
        own_checks: the user's own checks among the triggers, by the name that the policy gives them.
    """
    limits, own = budget or RetrainBudgetSpec(), own_checks or {}

    @dg.sensor(
        name=retrain_sensor(spec.name),
        job_name=retrain_job(spec.name),
        minimum_interval_seconds=FactorySettings().sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Starts {retrain_job(spec.name)} when {', '.join(spec.retrain.named_triggers)} asks for it; "
        "once for each cause.",
    )
    def retraining_sensor(
        context: dg.SensorEvaluationContext, lake: LakeResource, mlflow: MlflowResource, clock: ClockResource
    ) -> dg.SensorResult:
        start_runs_warm()
        stores = replace(open_stores(spec, lake, mlflow), sources=sources)
        now = clock.open().now()
        decision = stores.ledger.transact(
            spec.name, lambda history: _with_entries(context.instance, stores, limits, history, now, own)
        )
        for run_id in decision.stop_run_ids:
            stop_run(context.instance, run_id)
        sequence = str(stores.ledger.sequence())
        shown = [] if budget is None or sequence == context.cursor else show_ledger(stores.lake)
        return dg.SensorResult(
            run_requests=[_run_request(spec, request) for request in decision.requests],
            skip_reason=None if decision.requests else decision.reason,
            asset_events=shown,
            cursor=sequence,
        )

    return retraining_sensor


def decide(
    instance: dg.DagsterInstance,
    stores: LineStores,
    budget: RetrainBudgetSpec,
    history: RetrainHistory,
    now: datetime,
    own_checks: OwnChecks | None = None,
) -> RetrainDecision:
    """What is to be done now, from Dagster's record and the ledger; reads only."""
    spec, wall_now = stores.spec, datetime.now(UTC)
    serving = read_serving(stores)
    history = _without_silent_lines(instance, spec.name, history, wall_now)
    failed = read_failed_checks(instance, check_keys(spec).items(), spec.retrain.confirm)
    if own_checks:
        model = _judged_model(stores, serving, history)
        failed += read_failed_own_checks(instance, own_checks, spec.retrain.confirm, model)
    failed += read_due(stores, history, serving, newest_instant, (now, wall_now))
    failed, held_back = hold_back(failed, Incidents(stores.lake).read_of(stores.sources), spec.drift.window)
    # Neither is asked for while nothing fails and nothing waits, which is nearly always.
    payments = read_payments(stores) if failed or history.of_line(spec.name) else {}
    rows_a_day = read_rows_a_day(stores, now) if failed else {}
    situation = Situation(
        line=spec.name,
        failed=add_effects(stores, failed),
        serving=serving,
        history=history,
        runs=read_run_facts(instance, history, spec.name),
        now=now,
        wall_now=wall_now,
        judging=_find_judging(instance, (DAILY_JOB, MONITOR_JOB)),
        capacity=read_capacity(stores, budget, history, wall_now),
        price=read_price(stores, budget, len(serving)),
        rows_a_day=rows_a_day,
        payments=payments,
    )
    decision = decide_retraining(spec.retrain, situation)
    return replace(decision, reason=f"{held_back} {decision.reason}") if held_back else decision


def is_settled(instance: dg.DagsterInstance, stores: LineStores, now: datetime) -> bool:
    """Whether the line has nothing in flight, nothing to try again, nothing to ask for now, and no run is judging it."""
    history = stores.ledger.history(stores.spec.name)
    decision = decide(instance, stores, RetrainBudgetSpec(), history, now)
    if decision.judging is not None:
        return False
    newest = {**history.unsettled, **{entry.cause.key: entry for entry in decision.entries}}
    mine = [entry for entry in newest.values() if entry.cause.line == stores.spec.name]
    return all(entry.state in ("open", "raised", "superseded", "promoted", "kept_champion") for entry in mine)


def _with_entries(
    instance: dg.DagsterInstance,
    stores: LineStores,
    budget: RetrainBudgetSpec,
    history: RetrainHistory,
    now: datetime,
    own_checks: OwnChecks,
) -> tuple[Iterable[LedgerEntry], RetrainDecision]:
    decision = decide(instance, stores, budget, history, now, own_checks)
    return decision.entries, decision


def _judged_model(stores: LineStores, serving: Mapping[str, int], history: RetrainHistory) -> JudgedModel:
    answered = history.resolved.get((stores.spec.name, ALL))
    return JudgedModel(
        champion_version=serving.get(ALL, 0),
        data_as_of_utc=newest_feature_row(stores) or NEVER,
        answered_utc=answered.recorded_at_utc if answered else None,
    )


def newest_instant(cron: str, now: datetime) -> datetime:
    """The newest instant of `cron`, read in UTC, that is not after `now`."""
    # Going back, an instant at the very end counts as passed.
    return next(reverse_cron_string_iterator(now.timestamp() + 1e-3, cron, "UTC")).astimezone(UTC)


def _without_silent_lines(
    instance: dg.DagsterInstance, line: str, history: RetrainHistory, wall_now: datetime
) -> RetrainHistory:
    """The history without what waits on lines whose sensor does not tick: they hold no place back from others."""
    others = {entry.cause.line for entry in history.unsettled.values() if entry.next_step in ("place", "budget")} - {line}
    if not others:
        return history
    since = (wall_now - _SENSOR_PATIENCE).timestamp()
    states = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
    ticking = {
        state.instigator_name
        for state in states
        if isinstance(data := state.instigator_data, SensorInstigatorData) and (data.last_tick_timestamp or 0) > since
    }
    silent = {other for other in others if retrain_sensor(other) not in ticking}
    heard = {key: e for key, e in history.unsettled.items() if e.cause.line not in silent or e.state in IN_FLIGHT}
    return replace(history, unsettled=heard)


def _find_judging(instance: dg.DagsterInstance, jobs: tuple[str, ...]) -> str | None:
    """A run of one of `jobs` that is queued or running, and not for too long already."""
    since = datetime.now(UTC) - _JUDGING_PATIENCE
    for job in jobs:
        runs = instance.get_runs(dg.RunsFilter(job_name=job, statuses=UNFINISHED, created_after=since), limit=1)
        if runs:
            return str(runs[0].run_id)
    return None


def _run_request(spec: ModelLineSpec, request: RetrainRequest) -> dg.RunRequest:
    """The run of a request, with tags that answer on the runs page: why, which evaluation said so, the how manieth try."""
    config = {"ops": {models_step(spec.name): {"config": {"segments": list(request.segments)}}}}
    return dg.RunRequest(
        run_key=request.run_key,
        run_config=config if request.segments else {},
        tags={
            REQUEST_TAG: request.run_key,
            ATTEMPT_TAG: str(request.attempt),
            CAUSE_TAG: ", ".join(request.triggers),
            STRATEGY_TAG: request.strategy,
            # Of an own check `<asset>:<name>` the name alone: a tag has no room for both.
            **{f"{CHECK_TAG_PREFIX}{check.rpartition(':')[2]}": text for check, text in request.evidence.items()},
        },
    )
