"""The one place where keys, groups, tags, jobs and sensors get their names."""

import dagster as dg

DAILY_JOB = "daily"
DAILY_SCHEDULE = "daily_schedule"
MONITOR_JOB = "monitor"
MONITOR_SCHEDULE = "monitor_schedule"
CATCH_UP_SENSOR = "catch_up"
REFRESH_SENSOR = "refresh"
ALERTS_SENSOR = "alerts"
ACCOUNTS_JOB = "accounts"
ACCOUNTS_SCHEDULE = "accounts_schedule"
MAINTENANCE_JOB = "maintenance"
MAINTENANCE_SCHEDULE = "maintenance_schedule"

SOURCES_GROUP = "sources"
UPKEEP_GROUP = "upkeep"
ACCOUNTS_GROUP = "accounts"
BROKEN_GROUP = "broken"

CADENCE_TAG = "factory/cadence"
DAILY = "daily"
ON_RETRAIN = "on_retrain"
REPORT_CADENCE = "report"
# Made by the hourly run that judges, beside its checks.
MONITOR_CADENCE = "monitor"
REPORT_JOB = "report"
REPORT_SCHEDULE = "report_schedule"
DAILY_TAGS = {CADENCE_TAG: DAILY}
MONITORED_TAG = ("factory/monitored", "true")

# Whoever rewrites dbt's tables takes turns: a build refuses to overwrite what changed since it read it.
DBT_POOL = "dbt"

LINE_TAG = "factory/line"
# For people on the runs page; which causes a run serves is the ledger's to say, by the run key in REQUEST_TAG.
CAUSE_TAG = "factory/cause"
STRATEGY_TAG = "factory/strategy"
ATTEMPT_TAG = "factory/attempt"
# On a run whose processes ended with the factory's: it was lost, and says nothing of what it did.
LOST_TAG = "factory/lost"
# On a run that only shows what another one found: that one's id.
FOUND_BY_TAG = "factory/found_by"
# The change of files, or the acceptance, that a run takes a broken day in again for.
CATCH_UP_TAG = "factory/catch_up"
# By source: the cause that a run reads a stale source again for.
REFRESH_TAG_PREFIX = "factory/refresh_"
REQUEST_TAG = "factory/retrain_request"
CHECK_TAG_PREFIX = "factory/check/"
# In the metadata of a check: the segments that failed it, or "all" of a line that has none.
FAILING_SEGMENTS_METADATA = "failing_segments"
PRIORITY_TAG = "dagster/priority"
# Dagster's own, of a run that a sensor has asked for: the sensor.
SENSOR_TAG = "dagster/sensor_name"
# Dagster's own, of an event that is logged and not returned.
DATA_VERSION_TAG = "dagster/data_version"
RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"

# Dagster's switch: a run over a range plans one event, and not one a partition, so its failure paints no partition red.
RANGE_EVENTS_SWITCH = "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS"


def range_tags(first: str, last: str) -> dict[str, str]:
    """Run tags for a range of daily partitions, both ends included, in one run."""
    return {RANGE_START_TAG: first, RANGE_END_TAG: last}


def line_tags(line: str, cadence: str) -> dict[str, str]:
    """Asset tags of a model line's asset."""
    return {CADENCE_TAG: cadence, LINE_TAG: line, MONITORED_TAG[0]: MONITORED_TAG[1]}


def bronze_key(source: str) -> dg.AssetKey:
    """The asset of a source; dbt's source of the same name has the same key."""
    return dg.AssetKey(["bronze", source])


def table_key(schema: str, table: str) -> dg.AssetKey:
    """The asset of a Delta table in the lake: its folder below the root."""
    return dg.AssetKey([schema, table])


def maintenance_key() -> dg.AssetKey:
    """The asset whose materialization is one round of care for all tables."""
    return dg.AssetKey(["lake", "maintenance"])


def training_set_key(line: str) -> dg.AssetKey:
    """The asset of a line's training set."""
    return dg.AssetKey([line, "training_set"])


def models_key(line: str) -> dg.AssetKey:
    """The asset of a line's trained models."""
    return dg.AssetKey([line, "models"])


def segments_key(line: str) -> dg.AssetKey:
    """The asset that shows the segments of a fleet, a partition each."""
    return dg.AssetKey([line, "segments"])


def segment_partitions(line: str) -> str:
    """The name of a fleet's dynamic partitions."""
    return f"{line}__segments"


def predictions_key(line: str) -> dg.AssetKey:
    """The asset of a line's predictions."""
    return dg.AssetKey([line, "predictions"])


def ledger_key() -> dg.AssetKey:
    """The asset that shows the retrain ledger."""
    return dg.AssetKey(["ops", "retrain_ledger"])


def costs_key() -> dg.AssetKey:
    """The asset that sums up what work has cost."""
    return dg.AssetKey(["ops", "costs"])


def paybacks_key(line: str) -> dg.AssetKey:
    """The asset that judges whether a line's promotions paid."""
    return dg.AssetKey([line, "paybacks"])


def report_key(line: str) -> dg.AssetKey:
    """The asset of a line's drift report."""
    return dg.AssetKey([line, "report"])


def broken_key(declaration: str) -> dg.AssetKey:
    """The asset that shows a declaration which cannot be used."""
    return dg.AssetKey(["broken", declaration])


def models_step(line: str) -> str:
    """The op of `models_key`, as run config names it."""
    return f"{line}__models"


def retrain_job(line: str) -> str:
    """The job that retrains a line, gates it, scores again and checks again."""
    return f"{line}__retrain"


def retrain_sensor(line: str) -> str:
    """The sensor that requests `retrain_job` when a check has failed."""
    return f"{line}__retraining_sensor"


def left_days_sensor(line: str) -> str:
    """The sensor that has days scored which were left out while the line was blocked."""
    return f"{line}__left_days_sensor"
