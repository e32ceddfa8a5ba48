"""What Dagster's record says of the runs of retrain requests, and what such a run says to the ledger."""

from collections.abc import Mapping
from datetime import UTC, datetime

import dagster as dg
from dagster_shared.error import SerializableErrorInfo

from factory_assets.components.naming import LOST_TAG, REQUEST_TAG
from factory_assets.components.run_states import ENDED
from factory_assets.contracts.retraining import IN_FLIGHT, LedgerEntry, Outcome, RetrainHistory, RunFact
from factory_assets.core.retraining.claims import Claimant, decide_answer, decide_claim
from factory_assets.lines.retrain_situation import read_serving
from factory_assets.lines.stores import LineStores

# What a step says when its process is being shut down under it.
_INTERRUPTIONS = {"DagsterExecutionInterruptedError", "KeyboardInterrupt", "SystemExit"}
_PARENT_TAG = "dagster/parent_run_id"
_REASON_CHARACTERS = 300


def read_run_facts(instance: dg.DagsterInstance, history: RetrainHistory, line: str) -> dict[str, RunFact]:
    """By run key, the run of each of the line's requests that is in flight or was written off as too long."""
    asked = [entry for entry in history.of_line(line) if entry.state in IN_FLIGHT or entry.state == "expired"]
    if not asked:
        return {}
    by_id, by_key = _find_runs(instance, asked)
    facts = {}
    for entry in asked:
        runs = [by_id[entry.run_id]] if entry.run_id in by_id else by_key.get(entry.run_key, [])
        if runs and entry.run_key not in facts:
            facts[entry.run_key] = _judge_runs(instance, runs)
    return facts


def _find_runs(
    instance: dg.DagsterInstance, asked: list[LedgerEntry]
) -> tuple[dict[str, dg.DagsterRun], dict[str, list[dg.DagsterRun]]]:
    run_ids = sorted({entry.run_id for entry in asked if entry.run_id})
    by_id = {run.run_id: run for run in instance.get_runs(dg.RunsFilter(run_ids=run_ids))} if run_ids else {}
    by_key: dict[str, list[dg.DagsterRun]] = {}
    keys = sorted({entry.run_key for entry in asked if entry.run_id not in by_id})
    if keys:
        for run in instance.get_runs(dg.RunsFilter(tags={REQUEST_TAG: keys})):
            if _PARENT_TAG not in run.tags:  # a run that a person started again is that person's
                by_key.setdefault(run.tags[REQUEST_TAG], []).append(run)
    return by_id, by_key


def _judge_runs(instance: dg.DagsterInstance, runs: list[dg.DagsterRun]) -> RunFact:
    """The run that is furthest from its end speaks for the request."""
    for run in runs:
        if run.status not in ENDED:
            waiting = run.status == dg.DagsterRunStatus.NOT_STARTED
            return RunFact("waiting" if waiting else "active", run.run_id, run.status.value.lower())
    newest = runs[0]
    errors = _step_errors(instance, newest)
    went_wrong = _went_wrong(newest, errors)
    reason = f"run {newest.run_id} ended as {newest.status.value.lower()} without an answer"
    if went_wrong and errors:
        reason += f": {_first_line(errors[0])}"
    return RunFact("failed" if went_wrong else "lost", newest.run_id, reason)


def _step_errors(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[SerializableErrorInfo | None]:
    if run.status != dg.DagsterRunStatus.FAILURE:
        return []
    failures = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    return [log.get_dagster_event().step_failure_data.error for log in failures]


def _went_wrong(run: dg.DagsterRun, errors: list[SerializableErrorInfo | None]) -> bool:
    """Whether the run itself went wrong (success without an answer included), and was not lost with the factory."""
    if run.status != dg.DagsterRunStatus.FAILURE:
        return True
    if errors:
        return any(error is None or error.cls_name not in _INTERRUPTIONS for error in errors)
    return LOST_TAG not in run.tags


def _first_line(error: SerializableErrorInfo | None) -> str:
    """What the step raised, without Dagster's own error around it, as far as a reason has room."""
    raised = error.cause or error if error else None
    return raised.message.strip().partition("\n")[0][:_REASON_CHARACTERS] if raised else "no error was recorded"


def stop_run(instance: dg.DagsterInstance, run_id: str) -> None:
    """Ends a run that took too long, and frees its places; its process is asked to stop, and not waited for."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.status in ENDED:
        return
    if run.status == dg.DagsterRunStatus.QUEUED:
        instance.run_coordinator.cancel_run(run_id)
    elif run.status != dg.DagsterRunStatus.NOT_STARTED:
        instance.run_launcher.terminate(run_id)
    current = instance.get_run_by_id(run_id)
    if current is not None and current.status not in ENDED:
        instance.report_run_canceled(current, "the retrain gave no answer within retrain.timeout")
    instance.event_log_storage.free_concurrency_slots_for_run(run_id)


def claimant_of(line: str, run: dg.DagsterRun, segments: tuple[str, ...]) -> Claimant:
    """How a run presents itself: a run that a person started again from the UI is started by hand."""
    run_key = "" if _PARENT_TAG in run.tags else run.tags.get(REQUEST_TAG, "")
    return Claimant(line, run.run_id, run_key, segments)


def claim_request(stores: LineStores, claimant: Claimant, now: datetime) -> None:
    """Takes the request up before any work; again for the same run it changes nothing.

    Raises:
        RequestClosedError: when another run holds it, or it is closed.
    """
    serving = read_serving(stores)
    stores.ledger.transact(
        claimant.line,
        lambda history: (
            decide_claim(claimant, history, serving, now, datetime.now(UTC), stores.spec.retrain.timeout),
            None,
        ),
    )


def answer_request(stores: LineStores, claimant: Claimant, outcomes: Mapping[str, Outcome], now: datetime) -> None:
    """Settles the causes of the run; written last, so that a run which is cut off before is not taken for an answer."""
    policy = stores.spec.retrain
    stores.ledger.transact(
        claimant.line,
        lambda history: (
            decide_answer(claimant, history, outcomes, now, datetime.now(UTC), policy.backoff, policy.max_attempts),
            None,
        ),
    )
