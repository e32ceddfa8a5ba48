"""The one writer of `predictions/*`: scored rows, replaced day by day, each with the versions that made it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa

from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.storage.delta.lake import UTC_TIMESTAMP, Lake, PinnedTable, TableSpec
from factory_assets.storage.sql import equals_any, quote_identifier

DAY_COLUMN = "prediction_date"
FEATURES_HASH = "features_hash"
_CHANGED_DAYS = f"""
    with scored as (
        select {DAY_COLUMN} as day, count(*) as count, bit_xor({FEATURES_HASH}) as hash
        from predictions
        where {DAY_COLUMN} >= ? and {FEATURES_HASH} is not null
        group by all
    ),
    present as (
        select timezone(?, {{as_of}})::date as day, count(*) as count, bit_xor({{hash}}) as hash
        from features
        where {{as_of}} >= ? and {{as_of}} < ?
        group by all
    )
    select day
    from scored left join present using (day)
    where (scored.count, scored.hash) is distinct from (present.count, present.hash)
    order by day
"""


@dataclass(frozen=True)
class Provenance:
    """What is written beside every score, one entry a row: the row's segment, and the model that scored it.

    `model_segment`, `model_version` and `trained_until_utc` are null where no model serves; the score is then null too.
    """

    segment: pa.Array
    model_segment: pa.Array
    model_version: pa.Array
    trained_until_utc: pa.Array
    feature_set_version: int
    scored_at_utc: datetime
    run_id: str


@dataclass(frozen=True)
class Predictions:
    """Reads the rows to be scored, and writes the predictions, of one line."""

    lake: Lake
    spec: ModelLineSpec

    @property
    def name(self) -> str:
        """The table's name in the lake."""
        return f"predictions/{self.spec.name}"

    def read_features(
        self, feature_set: PinnedTable, features: Sequence[str], start: datetime, end: datetime, timezone: str = "UTC"
    ) -> pa.Table:
        """Feature rows with start <= as-of < end, with their day in `timezone` and a hash of each, in entity order."""
        as_of = quote_identifier(self.spec.as_of)
        columns = ", ".join(
            quote_identifier(c) for c in dict.fromkeys((*self.spec.row_key, *self.spec.segment_by, *features))
        )
        order = ", ".join(quote_identifier(c) for c in self.spec.row_key)
        sql = (
            f"select {columns}, timezone(?, {as_of})::date as {DAY_COLUMN}, {self._hash_sql(features)} as {FEATURES_HASH} "
            f"from t where {as_of} >= ? and {as_of} < ? order by {order}"
        )
        return self.lake.query(sql, [timezone, start, end], t=feature_set)

    def write(self, rows: pa.Table, scores: pa.Array, days: Sequence[date], provenance: Provenance) -> int:
        """Replaces the given days by `scores` of `rows` (from `read_features`); returns the table's version."""
        as_of = rows.column(self.spec.as_of)
        count = rows.num_rows
        scored = rows.select([*self.spec.row_key, DAY_COLUMN, FEATURES_HASH])
        for name, column in (
            ("score", scores),
            ("segment", provenance.segment),
            ("model_segment", provenance.model_segment),
            ("model_version", provenance.model_version),
            ("in_sample", pa.compute.less_equal(as_of, provenance.trained_until_utc)),
            ("feature_set_version", pa.repeat(pa.scalar(provenance.feature_set_version, pa.int64()), count)),
            ("scored_at_utc", pa.repeat(pa.scalar(provenance.scored_at_utc, UTC_TIMESTAMP), count)),
            ("dagster_run_id", pa.repeat(pa.scalar(provenance.run_id, pa.string()), count)),
        ):
            scored = scored.append_column(name, column)
        table = TableSpec(self.name, scored.schema, self.spec.entity, (DAY_COLUMN,), self.spec.row_key)
        return self.lake.replace(table, scored, equals_any(DAY_COLUMN, list(days)))

    def find_changed_days(
        self, feature_set: PinnedTable, features: Sequence[str], first: date, start: datetime, now: datetime, timezone: str
    ) -> list[date]:
        """Scored days from `first` on whose rows, or their features, are no longer those that were scored.

        Of days that were scored before hashes were kept nothing is known, and they are left as they are.

        Args:
            feature_set: as it is now.
            features: those that models see of it; other ones than were scored are a change.
            first: a day of `timezone`, which begins at `start`.
            start: see there.
            now: factory time; no row is later.
            timezone: cuts the days.
        """
        predictions = self.lake.find(self.name)
        if predictions is None or FEATURES_HASH not in predictions.columns:
            return []
        sql = _CHANGED_DAYS.format(as_of=quote_identifier(self.spec.as_of), hash=self._hash_sql(features))
        values = [first, timezone, start, now]
        days: list[date] = self.lake.query(sql, values, predictions=predictions, features=feature_set)["day"].to_pylist()
        return days

    def _hash_sql(self, features: Sequence[str]) -> str:
        columns = ", ".join(map(quote_identifier, (*self.spec.row_key, *features)))
        return f"(hash({columns}) >> 1)::bigint"  # Delta has no unsigned numbers
