"""When a stale source is read again, and a mended day taken in: once for each cause, and after a failure later and later."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from factory_assets.contracts.source import RefreshSpec

_MOST_ATTEMPTS = 8
_BACKOFF = timedelta(minutes=15)


@dataclass(frozen=True)
class Attempt:
    """A run for one cause; `ended_at_utc` is wall time, None while it goes on and for a run that was lost."""

    state: Literal["active", "failed", "succeeded"]
    ended_at_utc: datetime | None = None


@dataclass(frozen=True)
class NextAttempt:
    """Whether to start a run now, as the how manieth for its cause; `reason` is for the sensor's tick."""

    attempt: int | None
    reason: str


def decide_next_attempt(attempts: Sequence[Attempt], wall_now: datetime) -> NextAttempt:
    """Decides on one day to take in: eight runs in all, the wait doubled with each, so that they span a day and a half.

    A run that succeeded and left its cause in place is repeated like one that failed: files can change under it.

    Args:
        attempts: runs for this very cause, in any order.
        wall_now: wall time.
    """
    if any(attempt.state == "active" for attempt in attempts):
        return NextAttempt(None, "a run is under way.")
    if len(attempts) >= _MOST_ATTEMPTS:
        return NextAttempt(None, f"{len(attempts)} runs failed, and no more are tried.")
    until = _backoff_end(_BACKOFF, attempts)
    if until is not None and wall_now < until:
        return NextAttempt(None, f"a run failed, and the next is tried at {until.isoformat(timespec='minutes')}.")
    return NextAttempt(len(attempts) + 1, "a run is started.")


def refresh_cause(source: str, newest_utc: datetime | None, files: str) -> str:
    """What makes a source stale: how far it has come, and the files that lie there. Either changing is a new cause."""
    return hashlib.sha256(f"{source} {newest_utc} {files}".encode()).hexdigest()[:16]


def decide_refresh(
    source: str, policy: RefreshSpec, attempts: Sequence[Attempt], is_held: bool, wall_now: datetime
) -> NextAttempt:
    """Decides on one stale source.

    A run that succeeded and left the source as stale as before has found nothing new in the landing folder: another would
    not either, until a file comes. A run that failed is tried again after `backoff`, doubled with each failure.

    Args:
        source: the name, for the reason.
        policy: attempts and backoff.
        attempts: runs for this very cause, in any order.
        is_held: whether the newest days are held or missing; they are taken in when their files are mended.
        wall_now: wall time.
    """
    failures = [attempt for attempt in attempts if attempt.state == "failed"]
    if is_held:
        return NextAttempt(None, f"{source} is stale: its newest days are held, and wait for mended files.")
    if any(attempt.state == "active" for attempt in attempts):
        return NextAttempt(None, f"{source} is being read again.")
    if any(attempt.state == "succeeded" for attempt in attempts):
        return NextAttempt(None, f"{source} was read again and is still stale: it waits for a new file.")
    if len(failures) >= policy.max_attempts:
        return NextAttempt(None, f"{source} is stale: {len(failures)} runs failed, and no more are tried.")
    until = _backoff_end(policy.backoff, failures)
    if until is not None and wall_now < until:
        return NextAttempt(None, f"{source} is stale and is read again at {until.isoformat()}, after a failure.")
    return NextAttempt(len(failures) + 1, f"{source} is stale and is read again.")


def _backoff_end(backoff: timedelta, ended: Sequence[Attempt]) -> datetime | None:
    ends = [attempt.ended_at_utc for attempt in ended if attempt.ended_at_utc is not None]
    return max(ends) + backoff * (1 << min(len(ended) - 1, 10)) if ends else None
