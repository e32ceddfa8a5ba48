"""Hysteresis: a check has to fail on several states of the data in a row before its failure counts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from factory_assets.contracts.retraining import FailedCheck


@dataclass(frozen=True)
class Verdict:
    """One completed evaluation of a check; `failed` is None when it passed."""

    data_as_of_utc: datetime
    failed: FailedCheck | None


def confirm_failure(verdicts: Sequence[Verdict], confirm: int) -> FailedCheck | None:
    """The newest failure, with the segments that failed on each of the newest `confirm` states of the data.

    Judging the same data again counts once, and the newest verdict on it is the one that counts. With fewer states than
    asked for nothing is confirmed, except when there is no champion: there is nothing to wait for then.

    Args:
        verdicts: of one check, newest first.
        confirm: how many states in a row; 1 takes the newest verdict as it is.
    """
    states: dict[datetime, Verdict] = {}
    for verdict in verdicts:
        states.setdefault(verdict.data_as_of_utc, verdict)
    newest = next(iter(states.values()), None)
    if newest is None or newest.failed is None:
        return None
    if newest.failed.champion_version == 0:
        return newest.failed
    judged = [verdict.failed for verdict in list(states.values())[:confirm]]
    in_a_row = [failed for failed in judged if failed is not None]
    if len(in_a_row) < confirm:
        return None
    everywhere = set.intersection(*(set(failed.segments) for failed in in_a_row))
    confirmed = tuple(segment for segment in newest.failed.segments if segment in everywhere)
    return replace(newest.failed, segments=confirmed) if confirmed else None
