"""The decision of one tick, from what failed, what the ledger says and what became of earlier runs."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from factory_assets.contracts.retrain_policy import RetrainSpec
from factory_assets.contracts.retraining import (
    IN_FLIGHT,
    IN_VAIN,
    Cause,
    FailedCheck,
    LedgerEntry,
    RetrainDecision,
    RetrainRequest,
)
from factory_assets.core.retraining.admission import expected_loss
from factory_assets.core.retraining.demands import Demand, evaluate_demands
from factory_assets.core.retraining.follow_up import Draft, follow_up
from factory_assets.core.retraining.payments import PaymentRecord
from factory_assets.core.retraining.requests import request_due
from factory_assets.core.retraining.situation import Situation

_SHOWN = 3


def decide_retraining(policy: RetrainSpec, situation: Situation) -> RetrainDecision:
    """Decides what the ledger takes down and which runs are asked for; asked again after any crash it says the same.

    In order: what is in flight is followed up; causes with nothing left to answer are superseded; new causes are opened;
    of each segment, all causes go into one request when none is in flight, a failed one's backoff is over (by the wall
    clock), and the cooldown since the last answer is over (by the factory clock) unless a retry takes them along; the
    factory's places and budget are given to the greatest expected loss first.
    """
    draft = Draft(
        situation.now,
        situation.wall_now,
        {entry.cause.key: entry for entry in situation.history.of_line(situation.line)},
    )
    again, stop = follow_up(draft, policy, situation.runs)
    requests: list[RetrainRequest] = []
    if situation.judging is None:
        demands = evaluate_demands(situation.line, policy, situation.failed, situation.serving, situation.history)
        _supersede(draft, demands, situation)
        _open(draft, policy, demands, situation)
        requests = request_due(draft, policy, demands, situation)
    reason = _explain(draft, situation, [*again, *requests])
    return RetrainDecision(tuple(draft.written), (*again, *requests), reason, tuple(stop), situation.judging)


def _supersede(draft: Draft, demands: Mapping[str, Demand], situation: Situation) -> None:
    """Ends causes that nothing is left to answer of.

    A cause whose attempt was cut off stays when the model has changed since: that may have been its own promotion, whose
    last steps are still to be done.
    """
    for entry in list(draft.current.values()):
        cause = entry.cause
        if entry.state in IN_FLIGHT or entry.state == "superseded":
            continue
        answered = situation.history.resolved.get((cause.line, cause.segment))
        if situation.serving.get(cause.segment, 0) != cause.champion_version:
            if entry.state not in IN_VAIN:
                draft.step(entry, "superseded", "the model has been replaced since")
        elif entry.state == "raised" and answered is not None and answered.recorded_at_utc >= entry.recorded_at_utc:
            draft.step(entry, "superseded", "a later retrain of the segment answered it")
        elif cause.trigger not in getattr(demands.get(cause.segment), "failures", {}):
            draft.step(entry, "superseded", f"{cause.trigger} holds again, or the policy has changed")


def _open(draft: Draft, policy: RetrainSpec, demands: Mapping[str, Demand], situation: Situation) -> None:
    """Opens what failed and is on no page yet: one open cause a segment, trigger and model, whatever data comes after."""
    known = {entry.cause.subject: entry for entry in draft.current.values() if entry.state != "superseded"}
    for segment, demand in demands.items():
        for trigger, check in demand.failures.items():
            cause = Cause(situation.line, segment, trigger, demand.champion_version, check.data_as_of_utc)
            existing = known.get(cause.subject)
            if cause.key in situation.history.settled:
                continue
            if existing is not None:
                if not _may_be_tried_anew(existing, cause, policy, demand, draft.now):
                    continue
                draft.step(existing, "superseded", "newer data has taken its place, and is tried anew")
            _write_open(draft, cause, demand, check, situation)


def _may_be_tried_anew(existing: LedgerEntry, cause: Cause, policy: RetrainSpec, demand: Demand, now: datetime) -> bool:
    """Newer data may have mended what no retry could: a raised cause does not silence the line for ever."""
    if existing.state != "raised" or demand.action == "alert_only":
        return False
    return cause.data_as_of_utc > existing.cause.data_as_of_utc and now >= existing.at_utc + policy.cooldown


def _write_open(draft: Draft, cause: Cause, demand: Demand, check: FailedCheck, situation: Situation) -> None:
    opened = LedgerEntry(
        cause,
        "open",
        situation.now,
        situation.wall_now,
        check.summary,
        strategy=demand.strategy,
        expected_loss=_loss(situation, cause.segment, check),
        summary=check.summary,
        evidence=check.evidence,
        evaluated_at_utc=check.evaluated_at_utc,
    )
    draft.put(opened)
    if demand.action == "alert_only":
        draft.step(opened, "raised", f"{check.summary} (the policy only alerts)", next_step="person")


def _loss(situation: Situation, segment: str, check: FailedCheck) -> float:
    payment = situation.payments.get(segment, PaymentRecord())
    effect, rows = check.effects.get(segment, 1.0), situation.rows_a_day.get(segment, 1.0)
    return expected_loss(effect, rows, payment.paid, payment.judged)


def _explain(draft: Draft, situation: Situation, requests: Sequence[RetrainRequest]) -> str:
    """The sentence for the tick, also when nothing is asked for."""
    if situation.judging is not None and not requests:
        return f"Run {situation.judging} is still judging: all its verdicts are taken together."
    if requests:
        return "; ".join(request.reason for request in requests[:_SHOWN])
    waiting = [entry for entry in draft.current.values() if entry.state not in ("superseded",)]
    if not waiting:
        if not situation.failed:
            return "No check that starts a retrain is failing."
        names = ", ".join(sorted({check.check for check in situation.failed}))
        return f"Already answered by a retrain, or left alone by the policy: {names} still failing."
    steps: dict[str, list[LedgerEntry]] = {}
    for entry in waiting:
        steps.setdefault(entry.next_step, []).append(entry)
    return " ".join(_describe_wait(step, entries) for step, entries in sorted(steps.items()))


def _describe_wait(step: str, entries: Sequence[LedgerEntry]) -> str:
    until = min((entry.next_step_at_utc for entry in entries if entry.next_step_at_utc), default=None)
    at = until.isoformat() if until else ""
    count = f"{len(entries)} cause(s)"
    return {
        "cooldown": f"Cooling down until {at} of the factory clock: {count} are next.",
        "backoff": f"An attempt failed: {count} waiting until {at} of the wall clock.",
        "place": f"Waiting for a free place: {count}.",
        "budget": f"Waiting for the budget of {at}: {count}.",
        "start": f"Waiting for retrain {entries[0].run_key}, which was requested: {count}.",
        "end": f"Waiting for retrain {entries[0].run_id}, which is running: {count}.",
        "person": f"{count} need a person: {entries[0].reason}.",
    }.get(step, f"{count} {step}.")
