"""Which model is judged on which rows: its features on all rows of its own segment or level, its scores on those it gave."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa

from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.core.segments import segment_keys
from factory_assets.core.serving.left_over import (
    HoldoutScores,
    HoldoutSummary,
    find_sharing,
    keep_left_over,
    summarise_holdout,
)
from factory_assets.lines.stores import LineStores
from factory_assets.storage.delta.lake import PinnedTable
from factory_assets.storage.sql import quote_identifier
from factory_assets.storage.tables.drift_references import Serving
from factory_assets.storage.tables.drift_windows import Window


def list_serving(stores: LineStores) -> list[Serving]:
    """The champions that serve, in the order of their segments."""
    serving = stores.versions.standing(stores.spec.name).serving
    return [Serving(segment, segment, champion.version) for segment, champion in sorted(serving.items())]


@dataclass(frozen=True)
class LeftOver:
    """The serving parents that share their rows with models below them, and what is compared with the rows they score.

    `summaries` are of those rows of their holdouts that they would serve now; for a parent in `lacking` there are none.
    """

    summaries: Mapping[str, HoldoutSummary] = field(default_factory=dict)
    lacking: frozenset[str] = frozenset()

    def shares(self, segment: str) -> bool:
        """Whether a serving model's own holdout has rows of another kind than those that it scores."""
        return segment in self.summaries or segment in self.lacking


def read_left_over(stores: LineStores, versions: Mapping[str, int]) -> LeftOver:
    """What the models below them leave to the parents among the serving `versions`."""
    spec = stores.spec
    sharing = find_sharing(versions, spec.levels)
    kept = stores.holdout_scores.read(spec.name, {parent: versions[parent] for parent in sorted(sharing)})
    return summarise_left_over(spec, kept, versions)


def summarise_left_over(spec: ModelLineSpec, kept: Mapping[str, HoldoutScores], serving: Collection[str]) -> LeftOver:
    """As `read_left_over`, of holdouts that are here."""
    sharing = find_sharing(serving, spec.levels)
    own = {parent: keep_left_over(kept[parent], parent, serving, spec.levels) for parent in sharing & set(kept)}
    summaries = {parent: summarise_holdout(spec, rows) for parent, rows in own.items() if len(rows.scores)}
    return LeftOver(summaries, sharing - set(summaries))


def window_of_features(
    stores: LineStores, table: PinnedTable, features: list[str], span: tuple[datetime, datetime]
) -> Window:
    """The feature rows of a window, each once for every level of the line's hierarchy, under its key there.

    A parent was trained on all rows below it, so it is compared on all of them, whoever scores them.
    """
    spec = stores.spec
    named = {name: name for name in features}
    if not spec.segment_by:
        return Window.of_table(table, named, spec.as_of, span)
    as_of = quote_identifier(spec.as_of)
    columns = ", ".join(map(quote_identifier, features))
    parts: list[tuple[str, str]] = []
    tables: dict[str, PinnedTable | pa.Table] = {"current_rows": table}
    for level, key in enumerate(spec.levels):
        if not key:
            parts.append((f"select 'all' as segment, {columns} from current_rows", ""))
            continue
        texts = ", ".join(f"{quote_identifier(column)}::varchar as {quote_identifier(column)}" for column in key)
        keys_sql = f"select distinct {texts} from t where {as_of} >= ? and {as_of} < ?"
        distinct = stores.lake.query(keys_sql, list(span), t=table)
        name = f"keys_{level}"
        tables[name] = distinct.append_column("segment", segment_keys(distinct, key).dictionary_decode())
        on = " and ".join(
            f"c.{quote_identifier(column)}::varchar is not distinct from k.{quote_identifier(column)}" for column in key
        )
        listed = ", ".join(f"c.{quote_identifier(feature)}" for feature in features)
        parts.append((f"select k.segment, {listed} from current_rows as c join {name} as k on {on}", "c."))
    where = "where {0}{1} >= ? and {0}{1} < ?"
    sql = " union all ".join(f"{select} {where.format(alias, as_of)}" for select, alias in parts)
    types = {field.name: str(getattr(field.type, "type", field.type)) for field in table.handle.schema().fields}
    return Window(sql, [*span] * len(parts), tables, {name: types[name] for name in features})


def window_of_scores(stores: LineStores, table: PinnedTable, name: str, span: tuple[datetime, datetime]) -> Window:
    """The scores of a window under the segment of the model that gave them."""
    as_of = quote_identifier(stores.spec.as_of)
    sql = (
        f"select model_segment as segment, score as {quote_identifier(name)} from current_rows "
        f"where {as_of} >= ? and {as_of} < ?"
    )
    return Window(sql, list(span), {"current_rows": table}, {name: "double"})
