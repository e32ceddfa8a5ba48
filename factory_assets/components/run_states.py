"""Which states of a run are its end, which are not, and when a run that failed is tried again."""

from collections.abc import Mapping
from datetime import UTC, datetime

import dagster as dg

from factory_assets.components.naming import CATCH_UP_TAG, LOST_TAG
from factory_assets.core.monitoring.refreshing import Attempt, NextAttempt, decide_next_attempt

ENDED = frozenset({dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED})
UNFINISHED = [status for status in dg.DagsterRunStatus if status not in ENDED]


def next_attempt(instance: dg.DagsterInstance, digest: str) -> NextAttempt:
    """Whether to start a run now for the change that CATCH_UP_TAG names."""
    return decide_next_attempt(read_attempts(instance, {CATCH_UP_TAG: digest}), datetime.now(UTC))


def read_attempts(instance: dg.DagsterInstance, tags: Mapping[str, str]) -> list[Attempt]:
    """The runs with these tags. One that was lost failed at no time: nothing is waited for after it."""
    attempts = []
    for record in instance.get_run_records(dg.RunsFilter(tags=tags)):
        run = record.dagster_run
        if run.status not in ENDED:
            attempts.append(Attempt("active"))
            continue
        ended = datetime.fromtimestamp(record.end_time, UTC) if record.end_time else record.update_timestamp
        succeeded = run.status == dg.DagsterRunStatus.SUCCESS
        attempts.append(Attempt("succeeded" if succeeded else "failed", None if LOST_TAG in run.tags else ended))
    return attempts
