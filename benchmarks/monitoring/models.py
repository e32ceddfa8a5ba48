"""A line's models as they would have been trained along the year, and what each of them scored afterwards."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
from threadpoolctl import threadpool_limits

from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.reports import Evaluation, FeatureReference, ScoreProfile
from factory_assets.core.models.prediction import predict_scores
from factory_assets.core.training.fit import fit_and_evaluate, name_features
from factory_assets.core.training.time_split import LABEL, cut_by_time
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.sql import quote_identifier

# The morning on which a day's data has landed, as in the demo.
LOOK = time(14, 0)
DAY, KNOWN_AT, PLACE = "day", "label_known_at", "place"


@dataclass(frozen=True)
class Model:
    """A model trained on a morning: what its training keeps, and its scores of every row of the year (float64)."""

    day: int
    evaluation: Evaluation
    references: tuple[FeatureReference, ...]
    profile: ScoreProfile
    scores: np.ndarray
    train: np.ndarray
    holdout: np.ndarray
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]


def as_day(moment: datetime) -> int:
    """The number of a UTC day."""
    return (moment.date() - datetime(1970, 1, 1, tzinfo=UTC).date()).days


def at_look(day: int) -> datetime:
    """The moment of a day's look."""
    return datetime.combine(datetime.fromtimestamp(0, UTC).date() + timedelta(days=day), LOOK, UTC)


def read_rows(lake: Lake, spec: ModelLineSpec) -> pd.DataFrame:
    """Features of the year with their labels (nan where there never is one), in order of time."""
    join = " and ".join(f"f.{quote_identifier(c)} = l.{quote_identifier(c)}" for c in spec.entity)
    order = ", ".join(f"f.{quote_identifier(c)}" for c in spec.row_key)
    label, known_at, as_of = map(quote_identifier, (spec.label.column, spec.label.known_at, spec.as_of))
    sql = (
        f"select f.*, l.{label}::double as {LABEL}, l.{known_at} as {KNOWN_AT}, "
        f"date_diff('day', timestamptz '1970-01-01', f.{as_of})::bigint as {DAY} "
        f"from features as f left join labels as l on {join} order by {order}"
    )
    tables = {"features": lake.pin(f"features/{spec.feature_set}"), "labels": lake.pin(f"marts/{spec.label.model}")}
    rows: pd.DataFrame = lake.query(sql, **tables).to_pandas()
    return rows


def train_model(spec: ModelLineSpec, rows: pd.DataFrame, day: int) -> Model:
    """The model of all rows that the line's training gives on that morning, with its scores of the whole year."""
    now = at_look(day)
    known = rows[LABEL].notna() & (rows[KNOWN_AT] <= now) & (rows[spec.as_of] <= now)
    validation = spec.validation
    kept = rows[known]
    columns = [c for c in kept.columns if c not in (KNOWN_AT, DAY)]
    table = pa.Table.from_pandas(kept[columns].assign(**{PLACE: kept.index}), preserve_index=False)
    split = cut_by_time(table, spec.as_of, validation.holdout, validation.window, now, spec.exam_span)
    features = name_features(spec, [c for c in columns if c not in (LABEL, *spec.segment_by)] + [*spec.features])
    with threadpool_limits(limits=1):
        trained = fit_and_evaluate(spec.model_copy(update={"features": tuple(dict.fromkeys(features))}), split, None, False)
        scores = predict_scores(trained.model, rows, trained.numeric, trained.categorical, spec.task)
    return Model(
        day,
        trained.evaluation,
        trained.references,
        trained.profile,
        scores,
        split.train[PLACE].to_numpy(),
        split.holdout[PLACE].to_numpy(),
        trained.numeric,
        trained.categorical,
    )
