"""Scores whole days with the models that serve, each row by its segment's own or by the nearest parent's."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from threadpoolctl import threadpool_limits

from factory_assets.core.serving.fleet_scoring import FleetScores, score_fleet
from factory_assets.lines.blocking import consecutive_days, find_blocked_days
from factory_assets.lines.serving import ServingFleet, open_fleet
from factory_assets.lines.stores import LineStores
from factory_assets.storage.delta.lake import UTC_TIMESTAMP
from factory_assets.storage.tables.predictions import Provenance


@dataclass(frozen=True)
class ScoringOutcome:
    """What was written: rows, the mean score, and the versions behind them.

    `model_version` is the newest version of the line that changed what serves, `by_parent` counts the rows that a parent of
    their segment scored, and `unserved` those that no model did.
    """

    rows: int
    mean_score: float | None
    model_version: int
    by_parent: int
    unserved: int
    feature_set_version: int
    table_version: int


def score_days(stores: LineStores, days: Sequence[date], timezone: str, now: datetime, run_id: str) -> ScoringOutcome | None:
    """Writes the predictions of consecutive `days` of `timezone`, replacing what they had; None when nothing serves yet."""
    standing = stores.versions.standing(stores.spec.name)
    fleet = open_fleet(stores, standing)
    if not fleet.champions:
        return None
    feature_set = stores.training_sets.pin_features()
    features = _features_of(fleet)
    start, end = _begin(min(days), timezone), _begin(max(days) + timedelta(days=1), timezone)
    # Rows later than the factory's now do not exist yet, whatever the landed files say.
    rows = stores.predictions.read_features(feature_set, features, start, min(end, now), timezone)
    with threadpool_limits(limits=1):
        scored = score_fleet(rows, stores.spec.levels, fleet.models, fleet.load, stores.spec.task)
    provenance = _credit(scored, fleet, feature_set.version, now, run_id)
    scores = pa.array(scored.scores, pa.float64(), from_pandas=True)
    table_version = stores.predictions.write(rows, scores, days, provenance)
    stores.feature_hashes.record(rows, features, feature_set.version, now)
    served = scored.servers >= 0
    by_parent = pc.sum(pc.not_equal(provenance.segment, provenance.model_segment)).as_py() or 0
    return ScoringOutcome(
        rows=rows.num_rows,
        mean_score=float(scored.scores[served].mean()) if served.any() else None,
        model_version=standing.serving_version,
        by_parent=int(by_parent),
        unserved=int(np.count_nonzero(~served)),
        feature_set_version=feature_set.version,
        table_version=table_version,
    )


def score_changed_days(
    stores: LineStores, taken_in: Collection[date], timezone: str, now: datetime, run_id: str
) -> list[date]:
    """Scores other days again whose features changed when some were `taken_in`; returns them.

    Looked at are those from the first day that was taken in, or from the start of the drift window if that is earlier: of a
    source without days any may have changed. Days that wait for a broken feed keep waiting.
    """
    fleet = open_fleet(stores, stores.versions.standing(stores.spec.name))
    if not fleet.champions:
        return []
    first = min([*taken_in, (now - stores.spec.drift.window).astimezone(ZoneInfo(timezone)).date()])
    changed = stores.predictions.find_changed_days(
        stores.training_sets.pin_features(), _features_of(fleet), first, _begin(first, timezone), now, timezone
    )
    others = set(changed) - set(taken_in)
    spans = consecutive_days(others - set(find_blocked_days(stores, others)))
    for span in spans:
        score_days(stores, span, timezone, now, run_id)
    return [day for span in spans for day in span]


def _features_of(fleet: ServingFleet) -> list[str]:
    return sorted({name for model in fleet.models.values() for name in (*model.numeric, *model.categorical)})


def _begin(day: date, timezone: str) -> datetime:
    return datetime.combine(day, time(), ZoneInfo(timezone)).astimezone(UTC)


def _credit(scored: FleetScores, fleet: ServingFleet, feature_set_version: int, now: datetime, run_id: str) -> Provenance:
    """Which model scored each row."""
    champions = [fleet.champions[model.segment] for model in scored.models]
    place = pa.array(scored.servers, mask=scored.servers < 0)

    def of_each(values: list[object], kind: pa.DataType) -> pa.Array:
        return pa.array(values, kind).take(place)

    return Provenance(
        segment=scored.segments.dictionary_decode(),
        model_segment=of_each([champion.segment for champion in champions], pa.string()),
        model_version=of_each([champion.version for champion in champions], pa.int64()),
        trained_until_utc=of_each([champion.trained_until_utc for champion in champions], UTC_TIMESTAMP),
        feature_set_version=feature_set_version,
        scored_at_utc=now,
        run_id=run_id,
    )
