"""The sensor that has a stale source read again, with all that is made of it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import dagster as dg

from factory_assets.components.check_verdicts import read_newest_verdicts
from factory_assets.components.naming import DAILY_JOB, REFRESH_SENSOR, REFRESH_TAG_PREFIX, bronze_key, range_tags
from factory_assets.components.run_states import UNFINISHED, read_attempts
from factory_assets.components.source_checks import DATA_FRESHNESS, newest_event
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.contracts.source import SourceSpec
from factory_assets.core.calendar_days import closed_days
from factory_assets.core.monitoring.freshness import evaluate_freshness
from factory_assets.core.monitoring.refreshing import decide_refresh, refresh_cause
from factory_assets.resources import ClockResource, LakeResource
from factory_assets.settings import FactorySettings
from factory_assets.storage.landing import find_files, fingerprint_files
from factory_assets.storage.tables.incidents import Incidents


@dataclass(frozen=True)
class StaleSource:
    """A source past its `max_lag`, and the cause by which runs for it are known."""

    spec: SourceSpec
    newest_utc: datetime | None
    cause: str


def build_refresh_sensor(sources: Sequence[SourceSpec], calendar: CalendarSpec) -> dg.SensorDefinition:
    """One sensor for all sources with `max_lag`. It keeps nothing: the failed checks, the lake and past runs decide.

    The run is the daily one over the days that have closed, so that features and predictions follow; sources and months
    that did not change are skipped in it.
    """
    known = {source.name: source for source in sources}

    @dg.sensor(
        name=REFRESH_SENSOR,
        job_name=DAILY_JOB,
        minimum_interval_seconds=FactorySettings().sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Runs the daily job when a source has failed its data_freshness, once for each cause.",
    )
    def refresh(
        context: dg.SensorEvaluationContext, lake: LakeResource, clock: ClockResource
    ) -> dg.RunRequest | dg.SkipReason:
        now = clock.open().now()
        days = closed_days(calendar, now)
        stale = _find_stale(context.instance, known, lake, days, now)
        if not stale or days is None:
            return dg.SkipReason("No source is stale.")
        if context.instance.get_runs_count(dg.RunsFilter(job_name=DAILY_JOB, statuses=UNFINISHED)):
            return dg.SkipReason("The daily job is running.")
        held = Incidents(lake.open()).read_open(known)
        due: dict[str, str] = {}
        reasons = []
        for source in stale:
            reached = source.newest_utc.astimezone(ZoneInfo(calendar.timezone)).date() if source.newest_utc else date.min
            is_held = any(incident.source == source.spec.name and incident.day >= reached for incident in held)
            attempts = read_attempts(context.instance, {f"{REFRESH_TAG_PREFIX}{source.spec.name}": source.cause})
            decision = decide_refresh(source.spec.name, source.spec.refresh, attempts, is_held, datetime.now(UTC))
            reasons.append(decision.reason)
            if decision.attempt is not None:
                due[source.spec.name] = f"{source.cause}:{decision.attempt}"
        if not due:
            return dg.SkipReason(" ".join(reasons))
        return _request(due, {source.spec.name: source.cause for source in stale}, days)

    return refresh


def _find_stale(
    instance: dg.DagsterInstance,
    sources: Mapping[str, SourceSpec],
    lake: LakeResource,
    days: tuple[date, date] | None,
    now: datetime,
) -> list[StaleSource]:
    """Sources whose check failed last and that are stale now: the verdict may be from before they were read again."""
    keys = {dg.AssetCheckKey(bronze_key(name), DATA_FRESHNESS): name for name, spec in sources.items() if spec.max_lag}
    found = []
    for verdict in read_newest_verdicts(instance, list(keys)):
        spec = sources[keys[verdict.key]]
        if verdict.passed or spec.max_lag is None:
            continue
        newest = newest_event(spec, lake.open())
        if not evaluate_freshness(spec.name, newest, now, spec.max_lag).fresh:
            listed = [str(date.fromordinal(n)) for n in range(days[0].toordinal(), days[1].toordinal() + 1)] if days else []
            files = fingerprint_files(find_files(lake.landing_folder(), spec, listed))
            found.append(StaleSource(spec, newest, refresh_cause(spec.name, newest, files)))
    return found


def _request(due: Mapping[str, str], causes: Mapping[str, str], days: tuple[date, date]) -> dg.RunRequest:
    """One run for all sources that are due. Its key is made of causes and attempts, so a repeated tick asks for the same."""
    key = hashlib.sha256(" ".join(f"{name}:{due[name]}" for name in sorted(due)).encode()).hexdigest()[:16]
    tags = {f"{REFRESH_TAG_PREFIX}{name}": causes[name] for name in due}
    return dg.RunRequest(run_key=f"refresh:{key}", tags={**range_tags(str(days[0]), str(days[1])), **tags})
