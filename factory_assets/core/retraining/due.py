"""Triggers that no check tells of: enough new labelled rows, and a schedule."""

from collections.abc import Mapping
from datetime import datetime

from factory_assets.contracts.retrain_policy import RetrainSpec
from factory_assets.contracts.retraining import FailedCheck
from factory_assets.contracts.segments import ALL


def evaluate_new_rows(
    policy: RetrainSpec, rows: int, learnable: int, since_utc: datetime, serving: Mapping[str, int], wall_now: datetime
) -> FailedCheck | None:
    """Due when at least `retrain.new_rows` labels became known since the champion's data, or since the last answer.

    As a share it asks for more the more there was to learn from: what a row teaches falls as their number grows.

    Args:
        policy: with the key `new_rows`.
        rows: labels that became known after `since_utc`.
        learnable: labels that a training at `since_utc` could learn from.
        since_utc: the later of both instants; it names the cause, so that after an answer the count begins anew.
        serving: the line's models.
        wall_now: wall time.
    """
    limit = policy.least_new_rows(learnable)
    if limit is None or rows < limit:
        return None
    share = f" ({policy.new_rows} of {learnable:,})" if isinstance(policy.new_rows, str) else ""
    summary = f"{rows:,} labelled rows since {since_utc.isoformat()}, the limit is {limit:,}{share}"
    return _due("new_rows", since_utc, summary, serving, wall_now)


def evaluate_schedule(
    scheduled_utc: datetime, since_utc: datetime, serving: Mapping[str, int], wall_now: datetime
) -> FailedCheck | None:
    """Due when the newest instant of the schedule lies after the champion's training and after the last answer.

    Args:
        scheduled_utc: the newest instant of `retrain.schedule` that is not in the future; it names the cause.
        since_utc: the later of training and last answer.
        serving: the line's models.
        wall_now: wall time.
    """
    if scheduled_utc <= since_utc:
        return None
    return _due("schedule", scheduled_utc, f"due since {scheduled_utc.isoformat()} by retrain.schedule", serving, wall_now)


def _due(trigger: str, as_of: datetime, summary: str, serving: Mapping[str, int], wall_now: datetime) -> FailedCheck:
    """For a fleet every segment that has a model; `evaluated_at_utc` is now, since it is seen as soon as it is due."""
    segments = tuple(sorted(serving)) or (ALL,)
    version = serving.get(ALL, max(serving.values(), default=0))
    return FailedCheck(trigger, 0, "", version, as_of, summary, segments, wall_now)
