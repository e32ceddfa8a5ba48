"""Feature rows beside the labels that are known by now: reads the feature set and the label's mart, writes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.storage.delta.lake import Lake, PinnedTable
from factory_assets.storage.sql import quote_identifier

LABEL = "label"
DAY = "day_number"


@dataclass(frozen=True)
class LabelledRows:
    """The rows of one line that a model can be judged on."""

    lake: Lake
    spec: ModelLineSpec

    def pin(self) -> tuple[PinnedTable, PinnedTable]:
        """The line's feature set and its label's mart, at versions that belong together.

        Raises:
            TableMissingError: when one was never built.
        """
        features, labels = self.lake.pin_published(f"features/{self.spec.feature_set}", f"marts/{self.spec.label.model}")
        return features, labels

    def read(
        self, tables: tuple[PinnedTable, PinnedTable], columns: Sequence[str], since: datetime, now: datetime
    ) -> pa.Table:
        """Rows with since <= as-of < now whose label is known at `now`, in the order of their key.

        Args:
            tables: from `pin`.
            columns: of the feature set, beside the row key and the segment key.
            since: first as-of time.
            now: factory time.

        Returns:
            The columns, the label as a number under `LABEL`, and the number of the UTC day under `DAY`.
        """
        features, labels = tables
        spec = self.spec
        as_of, label, known_at = map(quote_identifier, (spec.as_of, spec.label.column, spec.label.known_at))
        names = dict.fromkeys((*spec.row_key, *spec.segment_by, *columns))
        listed = ", ".join(f"f.{quote_identifier(name)}" for name in names)
        join = " and ".join(f"f.{quote_identifier(c)} = l.{quote_identifier(c)}" for c in spec.entity)
        order = ", ".join(f"f.{quote_identifier(c)}" for c in spec.row_key)
        sql = (
            f"select {listed}, l.{label}::double as {quote_identifier(LABEL)}, "
            f"date_diff('day', timestamptz '1970-01-01', f.{as_of})::bigint as {quote_identifier(DAY)} "
            f"from features as f join labels as l on {join} "
            f"where f.{as_of} >= ? and f.{as_of} < ? and l.{known_at} <= ? and l.{label} is not null order by {order}"
        )
        return self.lake.query(sql, [since, now, now], features=features, labels=labels)
