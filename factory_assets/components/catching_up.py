"""The sensor that takes a broken day in again once its feed was mended or a person accepted it."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from factory_assets.components.naming import (
    CATCH_UP_SENSOR,
    CATCH_UP_TAG,
    DAILY_JOB,
    RANGE_START_TAG,
    SENSOR_TAG,
    range_tags,
)
from factory_assets.components.run_states import next_attempt
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.contracts.incidents import Incident
from factory_assets.contracts.source import SourceSpec
from factory_assets.core.incidents.lifecycle import decide_catch_up
from factory_assets.resources import ClockResource, LakeResource
from factory_assets.settings import FactorySettings
from factory_assets.storage.landing import find_files, fingerprint_files
from factory_assets.storage.tables.incidents import Incidents

# Wall time after which a run that failed is no longer asked for; all its attempts lie well within it.
_REMEMBERED = timedelta(days=14)


def build_catch_up_sensor(sources: Sequence[SourceSpec], calendar: CalendarSpec) -> dg.SensorDefinition:
    """One sensor for all sources. It keeps nothing: open incidents, the files as they are now, and past runs decide.

    The run key is made of what changed, so each change is answered by one run. A run that failed is asked for again, later
    and later, until one has succeeded: also when it got as far as to end the incident, as the tables behind the source then
    lack the day.
    """
    known = {source.name: source for source in sources}

    @dg.sensor(
        name=CATCH_UP_SENSOR,
        job_name=DAILY_JOB,
        minimum_interval_seconds=FactorySettings().sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Runs the daily job over a held or missing day as soon as its files are mended or accepted.",
    )
    def catch_up(
        context: dg.SensorEvaluationContext, lake: LakeResource, clock: ClockResource
    ) -> dg.SensorResult | dg.SkipReason:
        held = Incidents(lake.open()).read_open(known)
        now = clock.open().now()
        files = {(i.source, i.day): _fingerprint(lake, known[i.source], i) for i in held}
        due = {digest: day for digest, day in _read_failed(context.instance).items() if day not in {i.day for i in held}}
        for day, digest in decide_catch_up(held, files).items():
            dated = any(incident.day == day and known[incident.source].partitions for incident in held)
            due[digest] = day if dated else _newest_day(calendar, now.date())
        requests, reasons = [], []
        for digest, day in due.items():
            following = next_attempt(context.instance, digest)
            reasons.append(f"Taking in {day}: {following.reason}")
            if following.attempt is not None:
                tags = {**range_tags(str(day), str(day)), CATCH_UP_TAG: digest}
                requests.append(dg.RunRequest(run_key=f"catch_up:{digest}:{following.attempt}", tags=tags))
        if requests:
            return dg.SensorResult(run_requests=requests)
        if held:
            open_days = ", ".join(f"{incident.source} {incident.day}" for incident in held)
            reasons.append(f"Waiting for mended files of {open_days}.")
        return dg.SkipReason(" ".join(reasons) or "No day is held or missing.")

    return catch_up


def _read_failed(instance: dg.DagsterInstance) -> dict[str, date]:
    """Changes that no run has succeeded for, with the day to take in; of several changes of a day the newest counts."""
    since = datetime.now(UTC) - _REMEMBERED
    runs = instance.get_runs(dg.RunsFilter(tags={SENSOR_TAG: CATCH_UP_SENSOR}, created_after=since))
    succeeded = {run.tags[CATCH_UP_TAG] for run in runs if run.status == dg.DagsterRunStatus.SUCCESS}
    newest = {run.tags[RANGE_START_TAG]: run.tags[CATCH_UP_TAG] for run in reversed(runs)}
    return {digest: date.fromisoformat(day) for day, digest in newest.items() if digest not in succeeded}


def _fingerprint(lake: LakeResource, source: SourceSpec, incident: Incident) -> str:
    return fingerprint_files(find_files(lake.landing_folder(), source, [str(incident.day)]))


def _newest_day(calendar: CalendarSpec, today: date) -> date:
    """The day of the calendar that a source without days is read with."""
    last = today if calendar.end is None else min(today, calendar.end)
    return max(calendar.start, date.fromordinal(last.toordinal() - 1))
