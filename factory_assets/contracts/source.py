"""What a user declares of a source: where its raw files land, and the contract on their rows."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from factory_assets.contracts.incidents import IncidentKind
from factory_assets.contracts.names import ColumnName, Duration, Name

PARTITION_COLUMN = "partition_date"
ColumnType = Literal["string", "bigint", "double", "boolean", "date", "timestamp"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ColumnContract(_Strict):
    """One column of a source: its type, and the rules that a row must pass to leave quarantine."""

    type: ColumnType = Field(description="A value that cannot be cast to it is quarantined with its row.")
    required: bool = Field(default=False, description="A row without a value is quarantined.")
    minimum: float | None = Field(default=None, description="Smallest value allowed (bigint and double only).")
    maximum: float | None = Field(default=None, description="Largest value allowed (bigint and double only).")
    allowed: tuple[str, ...] = Field(default=(), description="The only values allowed (string only); empty allows all.")
    description: str = Field(default="", description="Shown in Dagster.")

    @model_validator(mode="after")
    def _rules_fit_the_type(self) -> Self:
        if (self.minimum is not None or self.maximum is not None) and self.type not in ("bigint", "double"):
            raise ValueError(f"minimum and maximum need type bigint or double, not {self.type}")
        if self.allowed and self.type != "string":
            raise ValueError(f"allowed needs type string, not {self.type}")
        return self


class IncidentSpec(_Strict):
    """When a day of the feed counts as broken and is held, judged against the days before it."""

    history: Duration = Field(
        default="28d", validate_default=True, description="Published days before a day that it is compared with."
    )
    min_days: int = Field(default=7, ge=3, description="Fewer published days in the history give no verdict.")
    min_rows: int = Field(default=30, ge=2, description="A feed with fewer rows on its usual day is not judged.")
    least_volume: float = Field(
        default=0.6, gt=0, lt=1, description="Of the usual rows of that weekday; a day below it is half a batch."
    )
    most_volume: float = Field(
        default=1.6, gt=1, description="Of the usual rows of that weekday; a day above it is loaded twice."
    )
    null_jump: float = Field(
        default=0.1, gt=0, le=1, description="Share of rows that may lack columns in a combination unknown to the history."
    )
    tolerate: tuple[IncidentKind, ...] = Field(default=(), description="Kinds that hold nothing in this feed.")
    when_broken: Literal["go_on", "stop"] = Field(
        default="go_on",
        description="`stop` fails the run, and all behind it waits; `go_on` takes in the other days, and lines decide.",
    )


class RefreshSpec(_Strict):
    """How a source that is past its `max_lag` is read again, with all that is made of it."""

    max_attempts: int = Field(
        default=3, ge=0, description="Runs for one cause (newest event and files as they are) that may fail; 0 starts none."
    )
    backoff: Duration = Field(
        default="15m", validate_default=True, description="Wait after a failed run, by the wall clock; doubles with each."
    )


class SourceSpec(_Strict):
    """A raw feed that becomes one Delta table, `bronze/<name>`."""

    name: Name = Field(description="Names the table, the asset and dbt's source.")
    description: str = Field(default="", description="Shown in Dagster.")
    landing: str = Field(description="Glob below the landing folder, such as flights/{partition}*.csv")
    format: Literal["csv", "parquet", "json"] = Field(default="csv", description="CSV needs a header line.")
    null_values: tuple[str, ...] = Field(default=("",), description="Texts that mean no value (CSV only).")
    keys: tuple[ColumnName, ...] = Field(
        min_length=1, description="Columns that name a row in its day; the last file in name order wins."
    )
    event_time: ColumnName | None = Field(default=None, description="Timestamp of the event, for freshness checks.")
    partitions: Literal["daily"] | None = Field(
        default=None,
        description="`daily`: one set of files a day of the calendar; `{partition}` stands for YYYY-MM-DD.",
    )
    columns: dict[ColumnName, ColumnContract] = Field(min_length=1)
    max_quarantined_share: float = Field(
        default=0.05, ge=0, le=1, description="Above it the day is held: nothing of it is published."
    )
    max_lag: Duration | None = Field(
        default=None, description="Longest allowed lag from the newest event to now; absent: not checked. Needs event_time."
    )
    refresh: RefreshSpec = RefreshSpec()
    incidents: IncidentSpec = IncidentSpec()
    owners: tuple[str, ...] = Field(default=(), description="As in Dagster: `team:name` or an address.")

    @field_validator("landing")
    @classmethod
    def _landing_stays_below_its_folder(cls, pattern: str) -> str:
        if pattern.startswith(("/", "~")) or ".." in pattern.split("/") or "\\" in pattern:
            raise ValueError(f"{pattern!r} leaves the landing folder: write a relative pattern without '..'")
        return pattern

    @model_validator(mode="after")
    def _columns_fit_together(self) -> Self:
        if self.partitions is not None and "{partition}" not in self.landing:
            raise ValueError("a partitioned source needs {partition} in its landing pattern, or drop `partitions`")
        if self.partitions is None and "{partition}" in self.landing:
            raise ValueError("the landing pattern has {partition}, so `partitions: daily` is needed")
        for column in (*self.keys, *((self.event_time,) if self.event_time else ())):
            if column not in self.columns:
                raise ValueError(f"{column!r} is not among the declared columns: {', '.join(self.columns)}")
        if self.max_lag is not None and self.event_time is None:
            raise ValueError("max_lag is counted from the newest event: declare event_time, or drop max_lag")
        if self.refresh != RefreshSpec() and self.max_lag is None:
            raise ValueError("refresh is for a source that can be stale: declare max_lag, or drop refresh")
        if self.event_time and self.columns[self.event_time].type != "timestamp":
            raise ValueError(f"event_time {self.event_time!r} must be a column of type timestamp")
        if PARTITION_COLUMN in self.columns:
            raise ValueError(f"{PARTITION_COLUMN!r} is added by the factory: rename the column of the file")
        return self
