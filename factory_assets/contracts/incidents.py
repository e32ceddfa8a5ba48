"""Broken feeds: what is known of a batch (one day of one source), what was found wrong in it, and what became of it."""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

IncidentKind = Literal[
    "schema_change",
    "late_partition",
    "double_load",
    "frozen_feed",
    "unit_change",
    "swapped_columns",
    "timezone_shift",
    "half_batch",
    "null_burst",
    "stuck_value",
    "contract_breach",
]
# `open`: held, or missing. `accepted`: a person said that the held files are right, and they are not in yet.
IncidentState = Literal["open", "accepted", "published", "repaired"]
Route = Literal["sound", "drift", "hold"]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class ColumnProfile:
    """One column of a batch. `quantiles` are those of QUANTILES, empty where the column is no number or has no value.

    `misfits` could not be cast to the declared type. `mode` is the commonest value if it is a number, `mode_share` its share
    of all rows, and `longest_run` the most rows in a row with one value, in the order of entity and event time. `content`
    hashes the values whatever their order; `sketch` holds the smallest hashes of its distinct values, so that two sketches
    tell how far two columns share their values.
    """

    column: str
    rows: int
    nulls: int
    misfits: int = 0
    distinct: int = 0
    mode: float | None = None
    mode_share: float = 0.0
    longest_run: int = 0
    quantiles: tuple[float, ...] = ()
    mean: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    content: str = ""
    sketch: tuple[int, ...] = ()

    @property
    def null_share(self) -> float:
        """Share of rows without a value."""
        return self.nulls / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class BatchProfile:
    """One day of one source, as the files say it, before anything was published.

    `rows` counts each key once, `duplicates` the rows that repeat another one byte for byte. `null_patterns` maps the
    columns that lack a value together ('a,b') to a number of rows. `orders` maps 'a<b' to the share of rows where the
    number in `a` is below the one in `b`. `hours` counts rows by local hour of the event, `outside` those whose event lies
    on another day. `row_sketch` is a sketch of whole rows without their time columns and daily constants.
    """

    source: str
    day: date
    rows: int
    duplicates: int
    columns: tuple[ColumnProfile, ...]
    null_patterns: dict[str, int] = field(default_factory=dict)
    orders: dict[str, float] = field(default_factory=dict)
    hours: tuple[int, ...] = ()
    outside: int = 0
    row_sketch: tuple[int, ...] = ()
    contract_breaches: int = 0

    def column(self, name: str) -> ColumnProfile | None:
        """The profile of one column."""
        return next((column for column in self.columns if column.column == name), None)


@dataclass(frozen=True)
class Finding:
    """One thing wrong with a batch: what kind, where (`column` is empty for the whole batch), and against what."""

    kind: IncidentKind
    column: str
    rows: int
    expected: str
    found: str

    def __str__(self) -> str:
        where = f"column {self.column}" if self.column else "the batch"
        return f"{self.kind.replace('_', ' ')} in {where}: expected {self.expected}, found {self.found} ({self.rows:,} rows)"


@dataclass(frozen=True)
class BatchVerdict:
    """Where a batch goes. `hold` has findings, the worst first; `drift` has columns that moved, and is published."""

    source: str
    day: date
    route: Route
    findings: tuple[Finding, ...]
    drifted_columns: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Incident:
    """One broken batch from the moment it was found to its end. `files` is the fingerprint of the files it was judged by.

    Times ending in `at_utc` are factory time; `recorded_at_utc` and `ended_recorded_at_utc` are wall time.
    """

    source: str
    day: date
    kind: IncidentKind
    state: IncidentState
    files: str
    findings: tuple[Finding, ...]
    summary: str
    opened_at_utc: datetime
    recorded_at_utc: datetime
    ended_at_utc: datetime | None = None
    ended_recorded_at_utc: datetime | None = None
    note: str = ""

    @property
    def is_open(self) -> bool:
        """Whether the day is still kept from readers."""
        return self.state in ("open", "accepted")
