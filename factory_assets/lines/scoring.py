"""Scores whole days with the champion."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pyarrow as pa
from threadpoolctl import threadpool_limits

from factory_assets.lines.serving import load_model
from factory_assets.lines.stores import LineStores
from factory_assets.storage.predictions import Provenance


@dataclass(frozen=True)
class ScoringOutcome:
    """What was written: rows, the mean score, and the versions behind them."""

    rows: int
    mean_score: float | None
    model_version: int
    feature_set_version: int
    table_version: int


def score_days(stores: LineStores, days: Sequence[date], timezone: str, now: datetime, run_id: str) -> ScoringOutcome | None:
    """Writes the predictions of consecutive `days` of `timezone`, replacing what they had; None without a champion."""
    champion = stores.versions.champion(stores.spec.name)
    if champion is None:
        return None
    feature_set = stores.training_sets.pin_features()
    features = [*champion.numeric, *champion.categorical]
    zone = ZoneInfo(timezone)
    start = datetime.combine(min(days), time(), zone).astimezone(UTC)
    end = datetime.combine(max(days) + timedelta(days=1), time(), zone).astimezone(UTC)
    # Rows later than the factory's now do not exist yet, whatever the landed files say.
    rows = stores.predictions.read_features(feature_set, features, start, min(end, now), timezone)
    with threadpool_limits(limits=1):
        scores = load_model(stores, champion).predict(rows.to_pandas())
    provenance = Provenance(champion.version, champion.trained_until_utc, feature_set.version, now, run_id)
    table_version = stores.predictions.write(rows, pa.array(scores, pa.float64()), days, provenance)
    mean = float(scores.mean()) if len(scores) else None
    return ScoringOutcome(rows.num_rows, mean, champion.version, feature_set.version, table_version)
