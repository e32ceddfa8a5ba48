"""What a retrain run says to the ledger: it claims its request before any work, and answers it at the very end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from factory_assets.contracts.retraining import (
    BY_HAND,
    IN_FLIGHT,
    Cause,
    LedgerEntry,
    Outcome,
    RetrainHistory,
)
from factory_assets.contracts.segments import ALL


class RequestClosedError(RuntimeError):
    """The request that this run was started for is not this run's to serve (any more)."""


@dataclass(frozen=True)
class Claimant:
    """A run that wants to retrain. Without a `run_key` a person started it, for `segments`; none are all."""

    line: str
    run_id: str
    run_key: str = ""
    segments: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The run key in the ledger; a run started by hand is a request of its own."""
        return self.run_key or f"{self.line}:by-hand:{self.run_id}"


def decide_claim(
    claimant: Claimant,
    history: RetrainHistory,
    serving: Mapping[str, int],
    now: datetime,
    wall_now: datetime,
    timeout: timedelta,
) -> list[LedgerEntry]:
    """The steps by which a run takes its causes over; none when it has them already.

    One run holds a request: a second one of the same run key, as two daemons might launch, gets an error before it has
    done any work. So does a run whose request has been written off meanwhile.

    Raises:
        RequestClosedError: saying whose it is, or what became of it.
    """
    until = wall_now + timeout
    mine = [entry for entry in history.of_line(claimant.line) if entry.run_key == claimant.key and entry.state in IN_FLIGHT]
    holders = {entry.run_id for entry in mine if entry.state == "running"}
    if holders - {claimant.run_id}:
        raise RequestClosedError(f"request {claimant.key} is held by run {min(holders)}: this run has nothing to do")
    if holders:
        return []
    if claimant.run_key:
        if not mine:
            raise RequestClosedError(
                f"request {claimant.key} is closed (answered, or written off and asked for anew): start a retrain of "
                f"{claimant.line} by hand if one is still wanted"
            )
        reason = f"run {claimant.run_id} took it up"
        changes = {"run_id": claimant.run_id, "next_step": "end", "next_step_at_utc": until}
        return [entry.step("running", reason, now, wall_now, **changes) for entry in mine]
    return _claim_by_hand(claimant, history, serving, now, wall_now, until)


def _claim_by_hand(
    claimant: Claimant,
    history: RetrainHistory,
    serving: Mapping[str, int],
    now: datetime,
    wall_now: datetime,
    until: datetime,
) -> list[LedgerEntry]:
    """A cause of its own, and all causes of its segments that nobody serves: what a person does answers them too."""
    segments = claimant.segments or (ALL,)
    reason = f"run {claimant.run_id} was started by hand"
    changes = {"run_key": claimant.key, "run_id": claimant.run_id, "next_step": "end", "next_step_at_utc": until}
    own = [
        LedgerEntry(
            Cause(claimant.line, segment, BY_HAND, serving.get(segment, 0), wall_now),
            "open",
            now,
            wall_now,
            reason,
            summary=reason,
        )
        for segment in segments
    ]
    waiting = [
        entry
        for entry in history.of_line(claimant.line)
        if entry.state not in IN_FLIGHT and (not claimant.segments or entry.cause.segment in claimant.segments)
    ]
    return [
        entry.step("running", reason, now, wall_now, **changes, attempts=entry.attempts + 1) for entry in [*own, *waiting]
    ]


def decide_answer(
    claimant: Claimant,
    history: RetrainHistory,
    outcomes: Mapping[str, Outcome],
    now: datetime,
    wall_now: datetime,
    backoff: timedelta,
    max_attempts: int,
) -> list[LedgerEntry]:
    """The steps that settle the causes of a run, segment by segment.

    A segment that went wrong is tried again by itself. One that the run had no outcome for counts as the line's (`all`),
    or as gone wrong when there is none either.

    Raises:
        RequestClosedError: when the request was written off while the run went on.
    """
    mine = [e for e in history.of_line(claimant.line) if (e.run_key, e.run_id) == (claimant.key, claimant.run_id)]
    running = [entry for entry in mine if entry.state == "running"]
    if not running:
        raise RequestClosedError(f"request {claimant.key} was written off while run {claimant.run_id} was going on")
    missing = Outcome("failed", "the run gave no outcome for this segment")
    return [
        step
        for entry in running
        for step in _answer(
            entry,
            outcomes.get(entry.cause.segment) or outcomes.get(ALL) or missing,
            now,
            wall_now,
            backoff,
            max_attempts,
        )
    ]


def _answer(
    entry: LedgerEntry, outcome: Outcome, now: datetime, wall_now: datetime, backoff: timedelta, max_attempts: int
) -> Sequence[LedgerEntry]:
    if outcome.state != "failed":
        return [entry.step(outcome.state, outcome.reason, now, wall_now, outcome_version=outcome.version)]
    failures = entry.failures + 1
    until = wall_now + backoff * (1 << min(failures - 1, 10))
    failed = entry.step(
        "failed", outcome.reason, now, wall_now, failures=failures, next_step="backoff", next_step_at_utc=until
    )
    if failures < max_attempts:
        return [failed]
    person = f"{outcome.reason}; after {failures} failures it waits for a person"
    return [failed, failed.step("raised", person, now, wall_now, next_step="person")]
