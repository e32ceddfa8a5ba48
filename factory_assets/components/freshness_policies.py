"""Dagster's freshness policies of the factory's assets, by which the UI shows what is late.

A policy counts from an asset's newest materialization, by the wall clock; whether the data inside is new is for the checks
of the same name in the declaration. The daemon evaluates policies each half minute (`freshness` in dagster.yaml).
"""

from collections.abc import Iterable
from datetime import time, timedelta

import dagster as dg

from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.contracts.model_line import ModelLineSpec

# What is made daily and was not made for a day and a half has missed a run.
DAILY_LAG = timedelta(hours=36)
# Runs take their time: a policy of minutes would call an asset late that is being made.
_SHORTEST = timedelta(hours=1)
_MINUTE = timedelta(minutes=1)


def lag_policy(max_lag: timedelta | None) -> dg.FreshnessPolicy:
    """For an asset that is made at least this often; None for what is made daily."""
    return dg.FreshnessPolicy.time_window(fail_window=max(max_lag or DAILY_LAG, _SHORTEST))


def predictions_policy(spec: ModelLineSpec, calendar: CalendarSpec) -> dg.FreshnessPolicy:
    """With `predictions_by`, made between midnight and then; else daily."""
    if spec.freshness.predictions_by is None:
        return lag_policy(None)
    at = time.fromisoformat(spec.freshness.predictions_by)
    since_midnight = timedelta(hours=at.hour, minutes=at.minute)
    return dg.FreshnessPolicy.cron(f"{at.minute} {at.hour} * * *", max(since_midnight, _MINUTE), calendar.timezone)


def features_policies(lines: Iterable[ModelLineSpec]) -> dict[str, dg.FreshnessPolicy]:
    """By feature set, the shortest `features_max_lag` of the lines that read it."""
    lags: dict[str, timedelta] = {}
    for line in lines:
        lag = line.freshness.features_max_lag
        lags[line.feature_set] = min(lag, lags.get(line.feature_set, lag))
    return {name: lag_policy(lag) for name, lag in lags.items()}
