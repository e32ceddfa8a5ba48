"""All rows of a line with their labels, read once; and what of them could be known at a moment of the past."""

from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa

from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.core.backtesting.moments import Moment
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.tables.training_sets import KNOWN_AT_COLUMN, LABEL_COLUMN, TrainingSets

_DAY = "day"
_NEVER = np.iinfo(np.int64).max
_EPOCH = date(1970, 1, 1)
_UNIX = datetime(1970, 1, 1, tzinfo=UTC)


class NothingToReplayError(LookupError):
    """The lake holds no history of the line."""


@dataclass(frozen=True)
class History:
    """The rows of a line in the order of time, and all that is known of them by today.

    `as_of` and `known_at` are microseconds since 1970 of shape (n,), the latter the greatest number where there is no
    label; `days` are numbers of the local day, `labels` float64 with nan. `label_instants` are those of all labels of the
    table, sorted.
    """

    spec: ModelLineSpec
    rows: pa.Table
    as_of: np.ndarray
    known_at: np.ndarray
    days: np.ndarray
    labels: np.ndarray
    label_instants: np.ndarray
    feature_columns: tuple[str, ...]
    feature_set_version: int
    label_version: int

    @property
    def first_day(self) -> date:
        """The day of the oldest row."""
        return to_date(int(self.days[0]))

    @property
    def last_day(self) -> date:
        """The day of the newest row."""
        return to_date(int(self.days[-1]))

    def arrived(self, moment: Moment) -> int:
        """How many rows had arrived: those of closed days."""
        return int(np.searchsorted(self.as_of, to_micros(moment.closed_utc), side="left"))

    def between(self, span: tuple[datetime, datetime], moment: Moment) -> slice:
        """The arrived rows with span[0] <= as-of < span[1]."""
        start, end = (int(np.searchsorted(self.as_of, to_micros(instant), side="left")) for instant in span)
        return slice(start, max(start, min(end, self.arrived(moment))))

    def of_days(self, first: date, last: date) -> slice:
        """The rows of the local days first..last."""
        start = np.searchsorted(self.days, to_number(first), side="left")
        return slice(int(start), int(np.searchsorted(self.days, to_number(last), side="right")))

    def learnable(self, moment: Moment, since: datetime | None = None) -> tuple[pa.Table, int]:
        """What a training set holds at a moment: arrived rows whose label is known, later than `since` where it is given.

        Returns:
            The rows as `TrainingSets.read` gives them, and how many there are without regard to `since`.
        """
        arrived = self.arrived(moment)
        known = self.known_at[:arrived] <= to_micros(moment.now)
        known &= np.isfinite(self.labels[:arrived])
        start = 0 if since is None else int(np.searchsorted(self.as_of, to_micros(since), side="right"))
        rows = self.rows.slice(start, max(arrived - start, 0)).filter(pa.array(known[start:]))
        return rows, int(np.count_nonzero(known))

    def known_labels(self, rows: slice, now: datetime) -> np.ndarray:
        """The labels of rows as they are known at `now`, nan for the others."""
        return np.where(self.known_at[rows] <= to_micros(now), self.labels[rows], np.nan)

    def count_labels(self, since: datetime, now: datetime) -> int:
        """Labels that became known after `since`, up to `now`."""
        ends = (np.searchsorted(self.label_instants, to_micros(instant), side="right") for instant in (now, since))
        return int(next(ends)) - int(next(ends))


def read_history(lake: Lake, spec: ModelLineSpec, timezone: str) -> History:
    """Reads feature set and labels at the versions that the last completed build left.

    Raises:
        TableMissingError: when one was never built.
        FeatureSetError: when one lacks a column that the line names.
        NothingToReplayError: when there is no row, or no label.
    """
    sets = TrainingSets(lake, spec)
    feature_set, labels = sets.pin_inputs()
    rows = sets.read_history(feature_set, labels, timezone)
    known = sets.read_known_instants(labels).column("known_at")
    if not rows.num_rows or not len(known):
        raise NothingToReplayError(
            f"{feature_set.name} has {rows.num_rows} rows and {labels.name} {len(known)} labels: there is no history of "
            f"{spec.name!r} to replay. Take in days first, with the daily job or `factory demo`."
        )
    days = rows.column(_DAY).cast(pa.int32()).to_numpy().astype(np.int64)
    return History(
        spec=spec,
        rows=rows.drop([_DAY, KNOWN_AT_COLUMN]),
        as_of=_micros_of(rows.column(spec.as_of)),
        known_at=_micros_of(rows.column(KNOWN_AT_COLUMN)),
        days=days,
        labels=rows.column(LABEL_COLUMN).to_numpy().astype(np.float64),
        label_instants=_micros_of(known),
        feature_columns=tuple(feature_set.columns),
        feature_set_version=feature_set.version,
        label_version=labels.version,
    )


def to_micros(instant: datetime) -> int:
    """Microseconds since 1970."""
    return int((instant - _UNIX).total_seconds() * 1_000_000)


def to_date(number: int) -> date:
    """The date of a number of days since 1970."""
    return date.fromordinal(_EPOCH.toordinal() + number)


def to_number(day: date) -> int:
    """A date as days since 1970."""
    return day.toordinal() - _EPOCH.toordinal()


def _micros_of(column: pa.ChunkedArray) -> np.ndarray:
    moments = column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    return np.asarray(moments.fill_null(_NEVER).to_numpy())
