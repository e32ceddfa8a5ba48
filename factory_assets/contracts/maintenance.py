"""What a user declares of the care for tables, and what one round of it did."""

import re
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from factory_assets.contracts.calendar import check_time_of_day
from factory_assets.contracts.names import ColumnName, Duration

_TABLE_PATTERN = re.compile(r"[A-Za-z0-9_*]+/[A-Za-z0-9_*]+")
_EVERY_TABLE = "*/*"


def check_table_pattern(pattern: str) -> str:
    """Returns `pattern` when it is '<schema>/<table>', either part with `*` for anything.

    Raises:
        ValueError: when it is not.
    """
    if not _TABLE_PATTERN.fullmatch(pattern):
        raise ValueError(f"{pattern!r} names no table: write <schema>/<table>, such as marts/fct_flight or bronze/*")
    return pattern


TablePattern = Annotated[str, AfterValidator(check_table_pattern)]


class MaintenanceSpec(BaseModel):
    """How the tables of the lake are kept small and quick. No version that something live needs is ever dropped."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: str = Field(default="03:30", description="When the daily round starts, HH:MM in the calendar's time zone.")
    tables: tuple[TablePattern, ...] = Field(default=(_EVERY_TABLE,), description="Tables that are looked after.")
    exclude: tuple[TablePattern, ...] = Field(default=(), description="Tables of those that are left alone.")
    compact_from: int = Field(
        default=8,
        ge=2,
        description="Files of a table, or of one of its partitions, from which on small ones are put together.",
    )
    target_file_size_mb: int = Field(default=128, ge=1, description="About how large a compacted file gets.")
    z_order: dict[TablePattern, tuple[ColumnName, ...]] = Field(
        default_factory=dict,
        description="Columns that a table's rows are clustered by when it is compacted, for filters on them.",
    )
    retention: Duration = Field(
        default=timedelta(days=7),
        description="How long files that no newest version needs are kept, for readers and for runs in between.",
    )
    keep: dict[TablePattern, tuple[int, ...]] = Field(
        default_factory=dict,
        description="Versions that stay readable for ever. Those that the dbt project pins by `meta` need no mention.",
    )

    @field_validator("at")
    @classmethod
    def _at_is_a_time(cls, at: str) -> str:
        return check_time_of_day(at)

    @field_validator("retention")
    @classmethod
    def _retention_outlives_a_read(cls, retention: timedelta) -> timedelta:
        if retention < timedelta(hours=1):
            raise ValueError("files have to be kept for an hour at least, for those who are reading them: write 1h or more")
        return retention

    def covers(self, table: str) -> bool:
        """Tells whether `table` is looked after."""
        return _matches(table, self.tables) and not _matches(table, self.exclude)

    def z_order_of(self, table: str) -> tuple[str, ...]:
        """The columns that `table` is clustered by; none for most."""
        return next((columns for pattern, columns in self.z_order.items() if fnmatchcase(table, pattern)), ())

    def kept_of(self, table: str) -> frozenset[int]:
        """The versions of `table` that the declaration keeps."""
        return frozenset(v for pattern, versions in self.keep.items() if fnmatchcase(table, pattern) for v in versions)


@dataclass(frozen=True)
class TableCare:
    """What one round did to one table. `kept_versions` are those that something live needs, whatever their age.

    `problem` is a sentence when the round could not be finished; the rows are as before in either case.
    """

    table: str
    rows: int = 0
    version_before: int = 0
    version_after: int = 0
    files_before: int = 0
    files_after: int = 0
    files_freed: int = 0
    bytes_freed: int = 0
    kept_versions: tuple[int, ...] = ()
    problem: str | None = None


def _matches(table: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(table, pattern) for pattern in patterns)
