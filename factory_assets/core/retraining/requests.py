"""Which open causes are asked for in this tick, and what each of the others waits for."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from factory_assets.contracts.names import format_duration
from factory_assets.contracts.retrain_policy import RetrainSpec
from factory_assets.contracts.retraining import BY_HAND, IN_FLIGHT, IN_VAIN, LedgerEntry, NextStep, RetrainRequest
from factory_assets.core.retraining.admission import Batch, Candidate, count_in_flight, decide_admission
from factory_assets.core.retraining.cooldown import evaluate_cooldown
from factory_assets.core.retraining.demands import Demand
from factory_assets.core.retraining.follow_up import Draft, build_request
from factory_assets.core.retraining.payments import PaymentRecord
from factory_assets.core.retraining.situation import Situation


def request_due(
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
