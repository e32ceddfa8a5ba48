"""Which states of a run are its end, which are not, and how often a run is tried for one change."""

import dagster as dg

from factory_assets.components.naming import CATCH_UP_TAG

ENDED = frozenset({dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED})
UNFINISHED = [status for status in dg.DagsterRunStatus if status not in ENDED]
_MOST_ATTEMPTS = 3


def next_attempt(instance: dg.DagsterInstance, digest: str) -> int | None:
    """The number of the next run for the change that CATCH_UP_TAG names; None while one runs, or when three have ended."""
    runs = instance.get_runs(dg.RunsFilter(tags={CATCH_UP_TAG: digest}))
    if any(run.status not in ENDED for run in runs) or len(runs) >= _MOST_ATTEMPTS:
        return None
    return len(runs) + 1
