"""A job without partitions that runs by the clock."""

import dagster as dg


def build_scheduled_job(
    names: tuple[str, str], selection: dg.AssetSelection, cron: str, timezone: str, does: str, why: str
) -> dg.Definitions:
    """The job, which works in one process, and its schedule, which is on from the start.

    Args:
        names: of the job and of the schedule.
        selection: the assets and checks of the job.
        cron: five fields, in `timezone`.
        timezone: as in the IANA database.
        does: the description of the job.
        why: the description of the schedule.
    """
    job_name, schedule_name = names
    job = dg.define_asset_job(job_name, selection=selection, description=does, executor_def=dg.in_process_executor)
    schedule = dg.ScheduleDefinition(
        name=schedule_name,
        job=job,
        cron_schedule=cron,
        execution_timezone=timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=why,
    )
    return dg.Definitions(jobs=[job], schedules=[schedule])
