"""The Calendar component: the factory's days, its daily run, and its monitoring."""

import dagster as dg

from factory_assets.components.catching_up import build_catch_up_sensor
from factory_assets.components.declared import DeclaredComponent
from factory_assets.components.naming import (
    CADENCE_TAG,
    DAILY,
    DAILY_JOB,
    DAILY_SCHEDULE,
    MONITOR_CADENCE,
    MONITOR_JOB,
    MONITOR_SCHEDULE,
    MONITORED_TAG,
    REPORT_CADENCE,
    REPORT_JOB,
    REPORT_SCHEDULE,
    range_tags,
)
from factory_assets.components.refreshing import build_refresh_sensor
from factory_assets.components.scheduled_job import build_scheduled_job
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.contracts.source import SourceSpec
from factory_assets.core.calendar_days import closed_days
from factory_assets.resources import ClockResource


class Calendar(DeclaredComponent[CalendarSpec]):
    """The days of the factory, the daily run over them, and the hourly run of all checks."""

    spec_model = CalendarSpec

    def build_sound_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The `daily` and `monitor` jobs with their schedules, and the sensors that take days and sources in again."""
        checks: dg.AssetSelection = dg.AssetSelection.tag(*MONITORED_TAG) & dg.AssetSelection.all_asset_checks()
        declared = context.component_tree.get_all_components(of_type=DeclaredComponent)  # type: ignore[type-abstract]
        others = [key for component in declared if not component.problems for key in component.monitored_checks()]
        if others:
            checks |= dg.AssetSelection.checks(*others)
        daily = dg.define_asset_job(
            DAILY_JOB,
            # Line checks are the monitor job's: in a run over a range of days Dagster plans each of them once a day.
            selection=dg.AssetSelection.tag(CADENCE_TAG, DAILY) - checks,
            partitions_def=build_partitions(self.spec),
            description="Sources, dbt models with their tests, and predictions, for a day or a range of days in one run.",
            executor_def=dg.in_process_executor,
        )
        monitoring = build_scheduled_job(
            (MONITOR_JOB, MONITOR_SCHEDULE),
            checks | dg.AssetSelection.tag(CADENCE_TAG, MONITOR_CADENCE),
            "15 * * * *",
            self.spec.timezone,
            does="The checks of all sources and model lines, and whether past promotions paid; nothing else.",
            why="Judges every source and line hourly, so that a check fails even when nothing is materialized.",
        )
        reporting = build_scheduled_job(
            (REPORT_JOB, REPORT_SCHEDULE),
            dg.AssetSelection.tag(CADENCE_TAG, REPORT_CADENCE),
            "45 7 * * *",
            self.spec.timezone,
            does="The drift report of every model line.",
            why="Writes the reports anew each morning.",
        )
        sources = [
            component.spec for component in declared if not component.problems and isinstance(component.spec, SourceSpec)
        ]
        sensors = [build_catch_up_sensor(sources, self.spec)] if sources else []
        if any(source.max_lag for source in sources):
            sensors.append(build_refresh_sensor(sources, self.spec))
        days = dg.Definitions(jobs=[daily], schedules=[_build_daily_schedule(self.spec)], sensors=sensors)
        return dg.Definitions.merge(days, monitoring, reporting)


def find_calendar(context: dg.ComponentLoadContext) -> CalendarSpec | None:
    """The calendar of the defs folder that is being loaded; None when it has none, or a broken one."""
    calendars = context.component_tree.get_all_components(of_type=Calendar)
    return calendars[0].declared if calendars else None


def build_partitions(spec: CalendarSpec) -> dg.DailyPartitionsDefinition:
    """The daily partitions of the calendar, keyed YYYY-MM-DD."""
    end = spec.end.isoformat() if spec.end else None
    return dg.DailyPartitionsDefinition(start_date=spec.start.isoformat(), end_date=end, timezone=spec.timezone)


def _build_daily_schedule(spec: CalendarSpec) -> dg.ScheduleDefinition:
    hour, minute = spec.daily_at.split(":")

    @dg.schedule(
        name=DAILY_SCHEDULE,
        job_name=DAILY_JOB,
        cron_schedule=f"{int(minute)} {int(hour)} * * *",
        execution_timezone=spec.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Takes in the days that have closed, and looks back for late files.",
    )
    def daily_schedule(clock: ClockResource) -> dg.RunRequest | dg.SkipReason:
        days = closed_days(spec, clock.open().now())
        if days is None:
            return dg.SkipReason(f"no day has closed yet: the calendar starts on {spec.start}")
        first, last = days
        return dg.RunRequest(run_key=last.isoformat(), tags=range_tags(first.isoformat(), last.isoformat()))

    return daily_schedule
