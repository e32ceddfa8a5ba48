"""Scores beside the labels that are known by now: reads `predictions/*` and the label's mart, writes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.sql import quote_identifier

_EMPTY = pa.schema([("place", pa.int64()), ("day", pa.int64()), ("score", pa.float64()), ("label", pa.float64())])


@dataclass(frozen=True)
class ScoredLabels:
    """The scored rows of one line with what became of them."""

    lake: Lake
    spec: ModelLineSpec

    def read(self, versions: Mapping[str, int], span: tuple[datetime, datetime], now: datetime) -> pa.Table:
        """Rows with span[0] <= as-of < span[1] that these versions of models, by segment, scored and have not learnt from.

        Returns:
            `place` of the row's model among `versions`, `day` (number of its UTC day), `score`, and `label`: null until it
            is known at `now`.
        """
        predictions = self.lake.find(f"predictions/{self.spec.name}")
        labels = self.lake.find(f"marts/{self.spec.label.model}")
        if predictions is None or labels is None:
            return _EMPTY.empty_table()
        as_of, label, known_at = map(quote_identifier, (self.spec.as_of, self.spec.label.column, self.spec.label.known_at))
        join = " and ".join(f"p.{quote_identifier(c)} = l.{quote_identifier(c)}" for c in self.spec.entity)
        models = pa.table(
            {
                "place": pa.array(range(len(versions)), pa.int64()),
                "segment": pa.array(list(versions), pa.string()),
                "version": pa.array(versions.values(), pa.int64()),
            }
        )
        sql = (
            f"select m.place, date_diff('day', timestamptz '1970-01-01', p.{as_of})::bigint as day, p.score, "
            f"case when l.{known_at} <= ? then l.{label}::double end as label "
            "from predictions as p join models as m on p.model_segment = m.segment and p.model_version = m.version "
            f"left join labels as l on {join} where p.{as_of} >= ? and p.{as_of} < ? "
            "and not p.in_sample and isfinite(p.score) "
            f"order by p.{as_of}, {', '.join(f'p.{quote_identifier(c)}' for c in self.spec.entity)}"
        )
        return self.lake.query(sql, [now, *span], predictions=predictions, labels=labels, models=models)
