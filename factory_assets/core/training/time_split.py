"""The cut in time: what a fit may see, what the gate judges on, and what nothing is chosen by."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LABEL = "label"
NEITHER, TRAIN, HOLDOUT, EXAM = 0, 1, 2, 3


class TrainingDataError(ValueError):
    """The labelled rows cannot make a model; the message says what is missing."""


class TooFewRowsError(TrainingDataError):
    """One side of the cut has fewer rows than `validation.min_rows`."""


class SingleClassError(TrainingDataError):
    """Every training row has the same label."""


@dataclass(frozen=True)
class TimeSplit:
    """Rows before the cut, rows after it, and the newest of all, each in the order of the table they came from.

    The fit sees `train`, every choice is made on `holdout`, and a fleet as a whole is examined on `exam`.
    """

    train: pa.Table
    holdout: pa.Table
    exam: pa.Table
    cut_utc: datetime

    @property
    def later(self) -> pa.Table:
        """The holdout and then the exam: what models are asked for."""
        return pa.concat_tables([self.holdout, self.exam])


def cut_by_time(
    rows: pa.Table, as_of: str, holdout: timedelta, window: timedelta | None, now: datetime, exam: timedelta
) -> TimeSplit:
    """Parts labelled rows at `now - holdout`, however few there are: later rows are never seen by the fit.

    Rows of the future (`as_of` after `now`) are on neither side, nor are rows older than `window` before the cut.

    Args:
        rows: columns `as_of` (timestamps; naive ones are read as UTC), "label" without nulls, and the features.
        as_of: name of the timestamp column.
        holdout: span of the rows that no fit sees, back from `now`, the exam included.
        window: span of the training rows, back from the cut; None takes all.
        now: factory time, timezone-aware.
        exam: span back from `now`.

    Raises:
        ValueError: for a naive `now`, or null labels or times.
    """
    if rows[as_of].null_count or pc.any(rows[LABEL].is_null(nan_is_null=True)).as_py():
        raise ValueError(f"every labelled row needs {as_of!r} and {LABEL!r}: drop the rows without one first")
    parts = mark_parts(rows[as_of], holdout, window, now, exam)
    train, judged, examined = (_take(rows, np.flatnonzero(parts == part)) for part in (TRAIN, HOLDOUT, EXAM))
    return TimeSplit(train, judged, examined, now - holdout)


def _take(rows: pa.Table, places: np.ndarray) -> pa.Table:
    """Rows by rising place; in a table in the order of time those of one part are neighbours, and need not be copied."""
    start, end = (places[0], places[-1] + 1) if len(places) else (0, 0)
    return rows.slice(start, len(places)) if end - start == len(places) else rows.take(pa.array(places))


def utc_instants(moments: pa.ChunkedArray) -> np.ndarray:
    """The moments as numpy's naive UTC times, as Arrow keeps them whatever their time zone; naive ones are read as UTC."""
    times = moments if pa.types.is_timestamp(moments.type) else moments.cast(pa.timestamp("us"))
    instants: np.ndarray = times.to_numpy()
    return instants


def mark_parts(
    moments: pa.ChunkedArray, holdout: timedelta, window: timedelta | None, now: datetime, exam: timedelta
) -> np.ndarray:
    """To which part of time each row belongs: TRAIN, HOLDOUT, EXAM, or NEITHER (the future, and before the window).

    Args:
        moments: naive ones are read as UTC.
        holdout: span back from `now` that no fit sees, the exam included.
        window: span of the training rows, back from the cut; None takes all.
        now: factory time, timezone-aware.
        exam: span back from `now`.

    Returns:
        int8, one a row.

    Raises:
        ValueError: for a naive `now`.
    """
    if now.tzinfo is None:
        raise ValueError("now must be timezone-aware")
    instants, cut = utc_instants(moments), now - holdout
    parts = np.full(len(instants), TRAIN, dtype=np.int8)
    parts[instants > _instant(cut)] = HOLDOUT
    parts[instants > _instant(now - exam)] = EXAM
    parts[instants > _instant(now)] = NEITHER
    if window is not None:
        parts[instants <= _instant(cut - window)] = NEITHER
    return parts


def _instant(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")


def check_rows(split: TimeSplit, min_rows: int) -> None:
    """Holds a split to be enough for a model of its own.

    Raises:
        TooFewRowsError: when one side is too small.
        SingleClassError: when the training labels are all the same.
    """
    cut = split.cut_utc.isoformat()
    for side, rows in (("before", split.train), ("after", split.holdout)):
        if len(rows) < min_rows:
            raise TooFewRowsError(
                f"{len(rows)} labelled rows {side} the cut at {cut}, and validation.min_rows is {min_rows}:"
                " wait for more data, or change validation.holdout, window or min_rows"
            )
    check_classes(split)


def check_classes(split: TimeSplit) -> None:
    """Holds the training rows to have something to learn.

    Raises:
        SingleClassError: when their labels are all the same.
    """
    labels = split.train[LABEL].to_numpy()
    if len(labels) and (labels == labels[0]).all():
        raise SingleClassError(
            f"all {len(split.train)} training rows before {split.cut_utc.isoformat()} have the label"
            f" {labels[0]!r}: there is nothing to learn"
        )
