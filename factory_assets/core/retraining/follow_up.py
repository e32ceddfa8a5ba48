"""What became of requests that are in flight: answered, gone wrong, lost, too long, or never started."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from factory_assets.contracts.retrain_policy import RetrainSpec
from factory_assets.contracts.retraining import IN_FLIGHT, CauseState, LedgerEntry, RetrainRequest, RunFact

_MOST_DOUBLINGS = 10  # A thousand times the first wait: beyond that a date would overflow before anyone cared.


@dataclass
class Draft:
    """A decision in the making: the newest step of each unsettled cause of the line, and the steps to write."""

    now: datetime
    wall_now: datetime
    current: dict[str, LedgerEntry]
    written: list[LedgerEntry] = field(default_factory=list)

    def put(self, entry: LedgerEntry) -> None:
        """Adds a step."""
        self.current[entry.cause.key] = entry
        self.written.append(entry)

    def step(self, entry: LedgerEntry, state: CauseState, reason: str, **changes: object) -> LedgerEntry:
        """Adds the next step of a cause, and returns it."""
        following = entry.step(state, reason, self.now, self.wall_now, **changes)
        self.put(following)
        return following

    def in_flight(self) -> dict[str, list[LedgerEntry]]:
        """The causes of each request that has no answer yet, by run key."""
        requests: dict[str, list[LedgerEntry]] = {}
        for entry in self.current.values():
            if entry.state in IN_FLIGHT:
                requests.setdefault(entry.run_key, []).append(entry)
        return requests


def follow_up(draft: Draft, policy: RetrainSpec, runs: Mapping[str, RunFact]) -> tuple[list[RetrainRequest], list[str]]:
    """Moves on what is in flight; returns requests to repeat under their own run key, and runs to stop.

    Killed between the ledger and the run, a request has no run, or one that was never launched: the same run key is asked
    for again, which Dagster never starts twice.
    """
    again, stop = [], []
    for run_key, entries in draft.in_flight().items():
        fact = runs.get(run_key)
        if fact is not None and (fact.state == "failed" or fact.state == "lost"):  # noqa: PLR1714 (narrows the type)
            fail_attempt(draft, policy, entries, fact.state, fact.reason, fact.run_id)
        elif _is_overdue(entries, draft.wall_now):
            run_id = fact.run_id if fact else entries[0].run_id
            why = f"run {run_id} gave no answer in time and is stopped" if run_id else "no run of it was ever seen"
            fail_attempt(draft, policy, entries, "expired", why, run_id)
        elif fact is None and entries[0].state == "running":
            reason = f"run {entries[0].run_id} is gone from Dagster's record"
            fail_attempt(draft, policy, entries, "failed", reason, entries[0].run_id)
        elif fact is None or fact.state == "waiting":
            again.append(build_request(entries))
    for entry in draft.current.values():
        fact = runs.get(entry.run_key)
        if entry.state == "expired" and fact is not None and fact.state in ("waiting", "active"):
            stop.append(fact.run_id)
    return again, sorted(set(stop))


def fail_attempt(
    draft: Draft, policy: RetrainSpec, entries: list[LedgerEntry], state: CauseState, reason: str, run_id: str
) -> None:
    """Writes an attempt off: lost ones are tried again at once, others after a backoff that doubles, then by a person."""
    for entry in entries:
        if entry.cause.trigger == "by_hand":
            draft.step(entry, "superseded", f"{reason}; it was started by hand, and is not started again", run_id=run_id)
            continue
        failures = entry.failures + (state != "lost")
        if state == "lost":
            draft.step(entry, state, reason, run_id=run_id, next_step="backoff", next_step_at_utc=draft.wall_now)
            continue
        until = draft.wall_now + policy.backoff * (1 << min(max(failures, 1) - 1, _MOST_DOUBLINGS))
        changes = {"run_id": run_id, "failures": failures}
        failed = draft.step(entry, state, reason, **changes, next_step="backoff", next_step_at_utc=until)
        if failures >= policy.max_attempts:
            draft.step(failed, "raised", f"{reason}; after {failures} failures it waits for a person", next_step="person")


def build_request(entries: list[LedgerEntry]) -> RetrainRequest:
    """The run that serves these causes, which share their run key and strategy."""
    segments = tuple(sorted({entry.cause.segment for entry in entries}))
    whole = entries[0].strategy == "full" or segments == ("all",)
    return RetrainRequest(
        run_key=entries[0].run_key,
        segments=() if whole else segments,
        strategy=entries[0].strategy,
        attempt=max(entry.attempts for entry in entries),
        triggers=tuple(sorted({entry.cause.trigger for entry in entries})),
        evidence={entry.cause.trigger: entry.evidence for entry in entries if entry.evidence},
        reason=entries[0].reason,
    )


def _is_overdue(entries: list[LedgerEntry], wall_now: datetime) -> bool:
    return any(entry.next_step_at_utc is not None and entry.next_step_at_utc <= wall_now for entry in entries)
