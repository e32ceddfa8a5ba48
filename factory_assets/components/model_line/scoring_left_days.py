"""The sensor that has days scored which were left out while a check of the user's own blocked the line."""

import hashlib
from dataclasses import replace

import dagster as dg

from factory_assets.components.model_line.opening import open_stores
from factory_assets.components.model_line.own_checks import OwnChecks, read_blocking
from factory_assets.components.naming import CATCH_UP_TAG, DAILY_JOB, left_days_sensor, predictions_key, range_tags
from factory_assets.components.run_states import next_attempt
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.core.calendar_days import closed_days
from factory_assets.lines.blocking import consecutive_days, find_unscored_days
from factory_assets.resources import ClockResource, LakeResource, MlflowResource
from factory_assets.settings import FactorySettings


def build_left_days_sensor(
    spec: ModelLineSpec, calendar: CalendarSpec, sources: tuple[str, ...], blocking: OwnChecks
) -> dg.SensorDefinition:
    """Scores each span of left days once its check passes. It keeps nothing: tables and past runs decide.

    A run that failed is asked for again, later and later, for the same days and verdicts.
    """

    @dg.sensor(
        name=left_days_sensor(spec.name),
        job_name=DAILY_JOB,
        minimum_interval_seconds=FactorySettings().sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Scores days that {', '.join(spec.blocked_by)} kept {spec.name} from scoring, once the check passes.",
    )
    def left_days(
        context: dg.SensorEvaluationContext, lake: LakeResource, mlflow: MlflowResource, clock: ClockResource
    ) -> dg.SensorResult | dg.SkipReason:
        hindrance = read_blocking(context.instance, blocking)
        if hindrance:
            return dg.SkipReason(f"Nothing is scored: {hindrance}")
        closed = closed_days(calendar, clock.open().now())
        stores = replace(open_stores(spec, lake, mlflow), sources=sources)
        verdicts = context.instance.event_log_storage.get_latest_asset_check_execution_by_key(list(blocking.values()))
        judged = sorted(record.id for record in verdicts.values())
        requests, reasons = [], []
        for span in consecutive_days(find_unscored_days(stores, calendar, closed[1]) if closed else []):
            first, last = str(span[0]), str(span[-1])
            digest = hashlib.sha256(f"{spec.name} {first} {last} {judged}".encode()).hexdigest()[:16]
            following = next_attempt(context.instance, digest)
            reasons.append(f"{first} to {last}: {following.reason}")
            if following.attempt is not None:
                tags = {**range_tags(first, last), CATCH_UP_TAG: digest}
                key = f"{left_days_sensor(spec.name)}:{digest}:{following.attempt}"
                requests.append(dg.RunRequest(run_key=key, asset_selection=[predictions_key(spec.name)], tags=tags))
        if requests:
            return dg.SensorResult(run_requests=requests)
        return dg.SkipReason(" ".join(reasons) or "No day was left unscored.")

    return left_days
