"""What was decided on a line's models over time, for those who look back: the judges of promotions, and a check."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import pyarrow as pa

from factory_assets.contracts.model_versions import Champion
from factory_assets.contracts.reports import TrainingCount
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.tables.model_versions import MODEL_VERSIONS, PROMOTIONS, to_champion

_DECISIONS_SQL = """
    select segment, sequence, version, promoted, serves, decided_at_utc
    from promotions
    where line = ?
    order by sequence, segment
"""
_TRAININGS_SQL = """
select
    max(decided_at_utc) as at,
    count(*) as tried,
    count(*) filter (outcome = 'failed') as failed
from promotions
where line = ? and outcome in ('fitted', 'failed')
group by sequence order by sequence desc limit ?
"""
# A segment without a model of its own is news when that state begins, and not each time that its rows grew.
_NEWS_SQL = """
with decisions as (
    select
        *,
        lag(outcome) over earlier as outcome_before,
        lag(serves) over earlier as served_before
    from promotions
    where line = ?
    window earlier as (partition by segment order by sequence)
),

trained as (
    select segment, max(trained_at_utc) as trained_at_utc, max_by(dagster_run_id, version) as trained_in_run
    from versions
    where line = ?
    group by segment
)

select d.* exclude (outcome_before, served_before), t.trained_at_utc, t.trained_in_run
from decisions as d
left join trained as t using (segment)
where
    outcome in ('fitted', 'failed')
    or outcome is distinct from outcome_before
    or serves is distinct from served_before
qualify row_number() over (partition by segment order by sequence desc) = 1
order by segment
"""
_RECORDED_SQL = """
    select segment, version, trained_until_utc, numeric, categorical, artefact_path, artefact_sha256, value, dummy_value
    from versions semi join wanted using (segment, version)
    where line = ?
"""


@dataclass(frozen=True)
class RecordedModel:
    """A version with what it and the dummy came to on its holdout; its bytes may be gone."""

    model: Champion
    value: float | None
    dummy_value: float | None


@dataclass(frozen=True)
class PromotionHistory:
    """Reads what was decided on all lines, and the models that it was decided on."""

    lake: Lake

    def decisions(self, line: str) -> list[dict[str, Any]]:
        """All decisions on a line's segments, oldest first; of each only what says who served."""
        pinned = self.lake.find(PROMOTIONS.name)
        return [] if pinned is None else self.lake.query(_DECISIONS_SQL, [line], promotions=pinned).to_pylist()

    def news(self, line: str) -> list[dict[str, Any]]:
        """By segment, the last decision that changed what there is to tell of it, and when and in which run it was trained.

        `trained_at_utc` and `trained_in_run` are null for a segment that never had a model.
        """
        promotions, versions = self.lake.find(PROMOTIONS.name), self.lake.find(MODEL_VERSIONS.name)
        if promotions is None or versions is None:
            return []
        rows: list[dict[str, Any]] = self.lake.query(
            _NEWS_SQL, [line, line], promotions=promotions, versions=versions
        ).to_pylist()
        return rows

    def recorded(self, line: str, pairs: Iterable[tuple[str, int]]) -> dict[tuple[str, int], RecordedModel]:
        """The models of these segments and versions; one that was never recorded is absent."""
        pinned = self.lake.find(MODEL_VERSIONS.name)
        asked = sorted(set(pairs))
        if pinned is None or not asked:
            return {}
        wanted = pa.table(
            {"segment": pa.array([s for s, _ in asked], pa.string()), "version": pa.array([v for _, v in asked], pa.int64())}
        )
        rows = self.lake.query(_RECORDED_SQL, [line], versions=pinned, wanted=wanted).to_pylist()
        return {
            (row["segment"], row["version"]): RecordedModel(to_champion(row), row["value"], row["dummy_value"])
            for row in rows
        }

    def trainings(self, line: str, most: int) -> list[TrainingCount]:
        """The newest trainings that tried any segment, oldest first."""
        pinned = self.lake.find(PROMOTIONS.name)
        rows = [] if pinned is None else self.lake.query(_TRAININGS_SQL, [line, most], promotions=pinned).to_pylist()
        return [TrainingCount(row["at"].astimezone(UTC).date(), row["tried"], row["failed"]) for row in reversed(rows)]

    def failed_segments(self, line: str) -> dict[str, str]:
        """The segments whose last training failed, with the reason."""
        rows = self.lake.rows(
            PROMOTIONS, "line = ? qualify row_number() over (partition by segment order by sequence desc) = 1", [line]
        )
        return {row["segment"]: row["reason"] for row in rows if row["outcome"] == "failed"}
