"""Which states of a run are its end, and which are not."""

import dagster as dg

ENDED = frozenset({dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED})
UNFINISHED = [status for status in dg.DagsterRunStatus if status not in ENDED]
