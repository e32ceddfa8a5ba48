"""The decision of one tick, from what failed, what the ledger says and what became of earlier runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from factory_assets.contracts.names import format_duration
from factory_assets.contracts.retrain_policy import RetrainSpec
from factory_assets.contracts.retraining import (
    BY_HAND,
    IN_FLIGHT,
    IN_VAIN,
    Capacity,
    Cause,
    FailedCheck,
    LedgerEntry,
    NextStep,
    Price,
    RetrainDecision,
    RetrainHistory,
    RetrainRequest,
    RunFact,
)
from factory_assets.core.retraining.admission import (
    Batch,
    Candidate,
    count_in_flight,
    decide_admission,
    expected_loss,
)
from factory_assets.core.retraining.cooldown import evaluate_cooldown
from factory_assets.core.retraining.demands import Demand, evaluate_demands
from factory_assets.core.retraining.follow_up import Draft, build_request, follow_up

_SHOWN = 3


@dataclass(frozen=True)
class PaymentRecord:
    """How a segment's past promotions turned out, and how many times its cooldown is as long for that, before its bounds."""

    paid: int = 0
    judged: int = 0
    cooldown_factor: float = 1.0


@dataclass(frozen=True)
class Situation:
    """All that a decision rests on.

    Attributes:
        line: the model line.
        failed: of each trigger, its newest verdict if that one is a failure.
        serving: champion version by segment; a segment without a champion is absent.
        history: the ledger.
        runs: by run key of the line's requests in flight or expired, what became of the run; absent when there is none.
        now: factory time.
        wall_now: wall time.
        judging: a run that is still judging the line; its verdicts are waited for.
        capacity: limits of the factory.
        price: what a retrain is expected to take.
        rows_a_day: traffic by segment; absent counts as one row.
        payments: by segment, how past retrains paid.
    """

    line: str
    failed: Sequence[FailedCheck]
    serving: Mapping[str, int]
    history: RetrainHistory
    runs: Mapping[str, RunFact]
    now: datetime
    wall_now: datetime
    judging: str | None = None
    capacity: Capacity = field(default_factory=Capacity)
    price: Price = field(default_factory=Price)
    rows_a_day: Mapping[str, float] = field(default_factory=dict)
    payments: Mapping[str, PaymentRecord] = field(default_factory=dict)


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
        requests = _request_due(draft, policy, demands, situation)
    reason = _explain(draft, situation, [*again, *requests])
    return RetrainDecision(tuple(draft.written), (*again, *requests), reason, tuple(stop))


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


def _request_due(
    draft: Draft, policy: RetrainSpec, demands: Mapping[str, Demand], situation: Situation
) -> list[RetrainRequest]:
    """Asks for the segments that are due, as far as there is room; the others learn what they wait for."""
    candidates = _find_due(draft, policy, demands, situation)
    in_flight = count_in_flight(situation.history, draft.current)
    segments = max(len(situation.serving), 1)
    admission = decide_admission(
        situation.line, candidates, segments, situation.price, situation.capacity, situation.history, in_flight
    )
    for candidate, step, until, why in admission.waiting:
        for entry in candidate.entries:
            _wait(draft, entry, step, until, why, situation.price.cpu_seconds_a_segment)
    return [_request(draft, policy, number, batch, situation) for number, batch in enumerate(admission.batches, 1)]


def _find_due(draft: Draft, policy: RetrainSpec, demands: Mapping[str, Demand], situation: Situation) -> list[Candidate]:
    by_segment: dict[str, list[LedgerEntry]] = {}
    for entry in draft.current.values():
        if entry.state not in ("superseded", "raised") and entry.cause.trigger != BY_HAND:
            by_segment.setdefault(entry.cause.segment, []).append(entry)
    due = []
    for segment, entries in by_segment.items():
        hindrance = _find_hindrance(draft, policy, situation, segment, entries)
        if hindrance is not None:
            for entry in entries:
                if entry.state not in IN_FLIGHT:
                    _wait(draft, entry, *hindrance, 0.0)
            continue
        demand = demands.get(segment)
        strategy = demand.strategy if demand else entries[0].strategy
        loss = float("inf") if segment not in situation.serving else max(entry.expected_loss for entry in entries)
        due.append(Candidate(segment, tuple(entries), strategy, loss))
    return due


def _find_hindrance(
    draft: Draft, policy: RetrainSpec, situation: Situation, segment: str, entries: Sequence[LedgerEntry]
) -> tuple[NextStep, datetime | None, str] | None:
    """What a segment has to wait for before it may be asked for: its run, its backoff, its cooldown."""
    flying = [entry for entry in entries if entry.state in IN_FLIGHT]
    if flying:
        return "end", flying[0].next_step_at_utc, f"request {flying[0].run_key} is going on"
    in_vain = [entry for entry in entries if entry.state in IN_VAIN]
    backoffs = [e.next_step_at_utc for e in in_vain if e.next_step == "backoff" and e.next_step_at_utc is not None]
    if backoffs and draft.wall_now < max(backoffs):
        return "backoff", max(backoffs), "the last attempt failed"
    return None if in_vain else _find_cooldown(draft, policy, situation, segment, entries)


def _find_cooldown(
    draft: Draft, policy: RetrainSpec, situation: Situation, segment: str, entries: Sequence[LedgerEntry]
) -> tuple[NextStep, datetime | None, str] | None:
    answered = situation.history.resolved.get((situation.line, segment))
    if answered is None:
        return None
    payment = situation.payments.get(segment, PaymentRecord())
    cooldown = evaluate_cooldown(policy, payment.cooldown_factor, [entry.cause.trigger for entry in entries])
    until = answered.at_utc + cooldown
    if draft.now >= until:
        return None
    why = "the last retrain is too recent"
    if cooldown != policy.cooldown:
        newest = "did not" if payment.cooldown_factor > 1 else "did"
        paid = f"{payment.paid} of {payment.judged} retrains paid, the newest {newest}"
        why += f", and the cooldown is {format_duration(cooldown)} instead of {format_duration(policy.cooldown)}: {paid}"
    return "cooldown", until, why


def _wait(draft: Draft, entry: LedgerEntry, step: NextStep, until: datetime | None, why: str, cpu_seconds: float) -> None:
    """Notes what a cause waits for, unless that stands there already: a tick without news writes nothing."""
    if step == "person":
        draft.step(entry, "raised", why, next_step=step)
    elif (entry.next_step, entry.next_step_at_utc) != (step, until):
        changes = {"next_step": step, "next_step_at_utc": until, "reserved_cpu_seconds": cpu_seconds}
        # What went wrong stays in sight; of a cause that was only found, the summary says what that was.
        draft.step(entry, entry.state, why if entry.state == "open" else entry.reason, **changes)


def _request(draft: Draft, policy: RetrainSpec, number: int, batch: Batch, situation: Situation) -> RetrainRequest:
    """One run for a batch. Its key names the line, the ledger's commit that asks for it, and its place in it.

    That commit exists once, since it is written only on the state it was decided on: no two requests share a key.
    """
    run_key = f"{situation.line}:{situation.history.sequence + 1}:{number}"
    share = batch.reserved_cpu_seconds / sum(len(candidate.entries) for candidate in batch.candidates)
    asked = [
        draft.step(
            entry,
            "requested",
            f"Attempt {entry.attempts + 1} for {entry.cause.trigger}: {entry.summary}",
            attempts=entry.attempts + 1,
            run_key=run_key,
            run_id="",
            strategy=batch.strategy,
            reserved_cpu_seconds=share,
            next_step="start",
            next_step_at_utc=draft.wall_now + policy.timeout,
        )
        for candidate in batch.candidates
        for entry in candidate.entries
    ]
    return build_request(asked)


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
