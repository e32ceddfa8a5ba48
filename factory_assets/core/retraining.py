"""When failed checks start a retrain: exactly one effective retrain for each cause, and no cause without a next step.

The words. A *cause* is one check, of one champion, on one state of the data. An *attempt* is a run key; its ledger
entries tell how far it came: requested, failed or lost, kept_champion, promoted. The furthest of them counts, whatever
order they were written in, so a late or repeated entry never reopens what is settled.

The rules, in order. A cause is open while its check fails and no attempt with it was resolved (promoted or kept).
1. A run is active: wait for it.
2. An open cause was requested and nothing came of it (a crash between ledger and run): the same attempt is asked for
   again, under the same run key, so a run that did start is not started twice.
3. The newest failed attempt of the line holds back everything until its backoff is over, by the wall clock. An attempt
   that was lost because the factory was shut down under it is neither waited for nor counted as a failure.
4. Causes that failed `max_attempts` times wait for a person, and say so. All other open ones go into *one* request:
   a new cause rides along with a retry, since a retrain happens anyway. The attempt number is one more than the most
   attempts in vain among them, so no set of causes ever gets the same run key twice.
5. A request of new causes only waits for the cooldown since the last resolved retrain, by the factory clock.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from factory_assets.contracts.model_line import RetrainSpec
from factory_assets.contracts.reports import FailedCheck, LedgerEntry, RetrainDecision, RetrainState

_HOW_FAR: dict[RetrainState, int] = {"requested": 0, "lost": 1, "failed": 1, "kept_champion": 2, "promoted": 3}
_IN_VAIN = frozenset({"failed", "lost"})
_MOST_DOUBLINGS = 10  # A thousand times the first wait: beyond that a date would overflow before anyone cared.
_RESOLVED = frozenset({"kept_champion", "promoted"})


def cause_key(line: str, failed: FailedCheck) -> str:
    """Names a cause: the same model found wanting on the same data is the same cause, however often the check runs.

    >>> day = datetime(2013, 7, 1, 4, tzinfo=UTC)
    >>> cause_key("arrival_delay", FailedCheck("feature_drift", 7, "run", 3, day, "2 of 14 drifted"))
    'arrival_delay/feature_drift/v3/2013-07-01T04:00:00Z'

    Raises:
        ValueError: for data times without a time zone.
    """
    if failed.data_as_of_utc.tzinfo is None:
        raise ValueError(f"data_as_of_utc of {failed.check} must be timezone-aware")
    moment = failed.data_as_of_utc.astimezone(UTC).replace(tzinfo=None).isoformat()
    return f"{line}/{failed.check}/v{failed.champion_version}/{moment}Z"


def decide_retraining(
    line: str,
    policy: RetrainSpec,
    failed: Sequence[FailedCheck],
    ledger: Sequence[LedgerEntry],
    now: datetime,
    wall_now: datetime,
    active_run_id: str | None,
) -> RetrainDecision:
    """Decides by the rules above; it keeps nothing, so it can be asked again after any crash.

    Args:
        line: the model line.
        policy: which checks count, cooldown, attempts, backoff.
        failed: of each check, its newest completed evaluation if that one failed.
        ledger: entries of the line, in any order; those of other lines are ignored.
        now: factory time.
        wall_now: wall time.
        active_run_id: a retrain of the line that is queued or running; None when there is none.

    Returns:
        The decision, with a reason also when nothing is requested.
    """
    attempts = _furthest_entries(entry for entry in ledger if entry.line == line)
    failing = {cause_key(line, check): check for check in failed if check.check in policy.triggers}
    settled = {cause for entry in attempts if entry.state in _RESOLVED for cause in entry.causes}
    open_causes = {cause: check for cause, check in failing.items() if cause not in settled}
    if not open_causes:
        return _idle(failing)
    if active_run_id is not None:
        return RetrainDecision(False, f"Waiting for retrain {active_run_id}, which is queued or running.")
    for entry in attempts:
        if entry.state == "requested" and open_causes.keys() & set(entry.causes):
            reason = f"Asking again for attempt {entry.attempt}: it was requested and no run of it is known."
            return _request(reason, entry.run_key, entry.attempt, entry.causes, open_causes)
    return _decide_next(line, policy, open_causes, attempts, now, wall_now)


def _furthest_entries(entries: Iterable[LedgerEntry]) -> list[LedgerEntry]:
    """One entry for each run key, the furthest it came; oldest first."""
    furthest: dict[str, LedgerEntry] = {}
    for entry in sorted(entries, key=lambda e: (_HOW_FAR[e.state], e.recorded_at_utc)):
        furthest[entry.run_key] = entry
    return sorted(furthest.values(), key=lambda e: (e.recorded_at_utc, e.run_key))


def _decide_next(
    line: str,
    policy: RetrainSpec,
    open_causes: Mapping[str, FailedCheck],
    attempts: Sequence[LedgerEntry],
    now: datetime,
    wall_now: datetime,
) -> RetrainDecision:
    """Rules 3 to 5: nothing is running and nothing is in flight."""
    in_vain = {cause: sum(entry.state in _IN_VAIN and cause in entry.causes for entry in attempts) for cause in open_causes}
    failures = {cause: sum(entry.state == "failed" and cause in entry.causes for entry in attempts) for cause in open_causes}
    causes = tuple(sorted(cause for cause, count in failures.items() if count < policy.max_attempts))
    exhausted = len(failures) - len(causes)
    a_person = f" {exhausted} cause(s) failed {policy.max_attempts} times and need a person." if exhausted else ""
    if not causes:
        return RetrainDecision(False, f"Not retrying.{a_person}")
    attempt = 1 + max(in_vain[cause] for cause in causes)
    wait = _reason_to_wait(policy, attempts, attempt == 1, now, wall_now)
    if wait:
        return RetrainDecision(False, f"{wait} {len(causes)} cause(s) are next.{a_person}")
    summaries = "; ".join(f"{open_causes[cause].check}: {open_causes[cause].summary}" for cause in causes)
    return _request(
        f"Attempt {attempt} for {summaries}{a_person}", _run_key(line, causes, attempt), attempt, causes, open_causes
    )


def _reason_to_wait(
    policy: RetrainSpec, attempts: Sequence[LedgerEntry], new: bool, now: datetime, wall_now: datetime
) -> str:
    """Backoff, then cooldown; empty when neither holds the line back."""
    newest = attempts[-1] if attempts else None
    if newest is not None and newest.state == "failed":
        until = newest.recorded_at_utc + policy.backoff * (1 << min(newest.attempt - 1, _MOST_DOUBLINGS))
        if wall_now < until:
            return f"Attempt {newest.attempt} failed: waiting until {until.isoformat()} of the wall clock."
    resolved = max((entry.at_utc for entry in attempts if entry.state in _RESOLVED), default=None)
    if new and resolved is not None and now < resolved + policy.cooldown:
        return f"Cooling down until {(resolved + policy.cooldown).isoformat()} of the factory clock."
    return ""


def _run_key(line: str, causes: Sequence[str], attempt: int) -> str:
    digest = hashlib.sha256("\n".join(sorted(causes)).encode()).hexdigest()[:12]
    return f"{line}:{digest}:{attempt}"


def _request(
    reason: str, run_key: str, attempt: int, causes: Sequence[str], open_causes: Mapping[str, FailedCheck]
) -> RetrainDecision:
    checks = tuple(open_causes[cause] for cause in causes if cause in open_causes)
    return RetrainDecision(True, reason, run_key, attempt, tuple(causes), checks)


def _idle(failing: Mapping[str, FailedCheck]) -> RetrainDecision:
    if not failing:
        return RetrainDecision(False, "No check that starts a retrain is failing.")
    names = ", ".join(sorted({check.check for check in failing.values()}))
    return RetrainDecision(False, f"Already answered by a retrain: {names} still failing for the same model and data.")
