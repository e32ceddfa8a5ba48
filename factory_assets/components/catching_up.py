"""The sensor that takes a broken day in again once its feed was mended or a person accepted it."""

from collections.abc import Sequence
from datetime import date

import dagster as dg

from factory_assets.components.naming import CATCH_UP_SENSOR, CATCH_UP_TAG, DAILY_JOB, range_tags
from factory_assets.components.run_states import next_attempt
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.contracts.incidents import Incident
from factory_assets.contracts.source import SourceSpec
from factory_assets.core.incidents.lifecycle import decide_catch_up
from factory_assets.resources import ClockResource, LakeResource
from factory_assets.settings import FactorySettings
from factory_assets.storage.landing import find_files, fingerprint_files
from factory_assets.storage.tables.incidents import Incidents


def build_catch_up_sensor(sources: Sequence[SourceSpec], calendar: CalendarSpec) -> dg.SensorDefinition:
    """One sensor for all sources. It keeps nothing: open incidents and the files as they are now decide.

    The run key is made of the day and of what changed, so each change is answered by one run; a run that failed is asked
    for again, three times in all.
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
        due = decide_catch_up(held, files)
        requests = []
        for day, digest in due.items():
            attempt = next_attempt(context.instance, digest)
            if attempt is not None:
                dated = any(incident.day == day and known[incident.source].partitions for incident in held)
                taken_in = day if dated else _newest_day(calendar, now.date())
                tags = {**range_tags(str(taken_in), str(taken_in)), CATCH_UP_TAG: digest}
                requests.append(dg.RunRequest(run_key=f"catch_up:{day}:{digest}:{attempt}", tags=tags))
        if requests:
            return dg.SensorResult(run_requests=requests)
        open_days = ", ".join(f"{incident.source} {incident.day}" for incident in held)
        return dg.SkipReason(f"Waiting for mended files of {open_days}." if held else "No day is held or missing.")

    return catch_up


def _fingerprint(lake: LakeResource, source: SourceSpec, incident: Incident) -> str:
    return fingerprint_files(find_files(lake.landing_folder(), source, [str(incident.day)]))


def _newest_day(calendar: CalendarSpec, today: date) -> date:
    """The day of the calendar that a source without days is read with."""
    last = today if calendar.end is None else min(today, calendar.end)
    return max(calendar.start, date.fromordinal(last.toordinal() - 1))
