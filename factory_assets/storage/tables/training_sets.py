"""The one writer of `training_sets/*`: features joined to labels that were known at one instant, and nothing later."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa

from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.names import suggest
from factory_assets.core.segments import segment_values
from factory_assets.storage.delta.lake import Lake, PinnedTable, TableSpec
from factory_assets.storage.sql import quote_identifier

FEATURES_SCHEMA = "features"
MARTS_SCHEMA = "marts"
LABEL_COLUMN = "label"
KNOWN_AT_COLUMN = "label_known_at_utc"
# Arrow and DuckDB write these kinds of value alike.
_PLAIN_KEYS = frozenset({"string", "long", "integer", "short", "byte"})
_KNOWN_AT = "factory.as_known_at_utc"
_FEATURE_SET = "factory.feature_set"
_LABELS = "factory.labels"
_FEATURE_SET_VERSION = "factory.feature_set_version"
_LABEL_VERSION = "factory.label_version"


class FeatureSetError(ValueError):
    """The line asks for a column that its feature set or its label table does not have."""


@dataclass(frozen=True)
class TrainingSet:
    """One pinned training set: the instant it stands for, and the versions of what it was built from."""

    table: PinnedTable
    as_known_at_utc: datetime
    feature_set: PinnedTable
    labels: PinnedTable


@dataclass(frozen=True)
class TrainingSets:
    """Builds and reads the training set of one line."""

    lake: Lake
    spec: ModelLineSpec

    @property
    def name(self) -> str:
        """The table's name in the lake."""
        return training_set_name(self.spec.name)

    def pin_features(self) -> PinnedTable:
        """The line's feature set as the last completed build left it, pinned."""
        return self.lake.pin_published(f"{FEATURES_SCHEMA}/{self.spec.feature_set}")[0]

    def feature_columns(self, feature_set: PinnedTable) -> list[str]:
        """The line's features: those it names, or all but the columns that name the row.

        Raises:
            FeatureSetError: when a named column is not there.
        """
        key = self.spec.row_key
        named = (*key, *self.spec.segment_by, *self.spec.features)
        _require_columns(feature_set, named, f"model line {self.spec.name!r}")
        return list(self.spec.features) or [column for column in feature_set.columns if column not in key]

    def build(self, now: datetime) -> TrainingSet:
        """Writes the training set as it can be known at `now`: as-of moments and labels up to then.

        Rows are ordered by as-of time and entity, so that equal inputs give equal rows in equal order. When nothing became
        known since the newest training set, that one stands, and nothing is written.

        Raises:
            FeatureSetError: when a column that the line names is not there, also one that `drift` names.
        """
        # Together: features of one build and labels of another would join what never belonged together.
        feature_set, labels = self.pin_inputs()
        features = self.feature_columns(feature_set)
        self._check_drift(features)
        unchanged = self._find_unchanged(features, feature_set, labels, now)
        if unchanged is not None:
            return unchanged
        rows = self.lake.query(self._joining_sql(features), [now, now], features=feature_set, labels=labels)
        table = TableSpec(self.name, rows.schema, self.spec.entity, sort_by=self.spec.row_key)
        note = {
            _KNOWN_AT: now.isoformat(),
            _FEATURE_SET: feature_set.name,
            _LABELS: labels.name,
            _FEATURE_SET_VERSION: str(feature_set.version),
            _LABEL_VERSION: str(labels.version),
        }
        version = self.lake.replace(table, rows, note=note)
        return TrainingSet(self.lake.pin(self.name, version), now, feature_set, labels)

    def read_at(self, moments: pa.Table, window: timedelta, now: datetime) -> pa.Table:
        """The newest rows of some as-of moments as a training set built at `now` would have them; nothing is written.

        Args:
            moments: with the column `as_of_utc`.
            window: the whole days (UTC) that count, up to the newest one with a row.
            now: factory time; labels that are not known by then have no row.
        """
        feature_set, labels = self.lake.pin_published(
            f"{FEATURES_SCHEMA}/{self.spec.feature_set}", f"{MARTS_SCHEMA}/{self.spec.label.model}"
        )
        joined = self._joining_sql(self.feature_columns(feature_set))
        as_of = f"f.{quote_identifier(self.spec.as_of)}"
        newest = f"{joined} and {as_of} in (from moments) qualify {as_of} >= date_trunc('day', max({as_of}) over ()) - ?"
        return self.lake.query(
            newest, [now, now, window - timedelta(days=1)], features=feature_set, labels=labels, moments=moments
        )

    def pin(self) -> TrainingSet:
        """The newest training set with its inputs, all at the versions it was built from."""
        table = self.lake.pin(self.name)
        note = self.lake.read_note(table)
        return TrainingSet(
            table,
            datetime.fromisoformat(note[_KNOWN_AT]),
            self.lake.pin(f"{FEATURES_SCHEMA}/{self.spec.feature_set}", int(note[_FEATURE_SET_VERSION])),
            self.lake.pin(f"{MARTS_SCHEMA}/{self.spec.label.model}", int(note[_LABEL_VERSION])),
        )

    def _check_drift(self, features: Sequence[str]) -> None:
        for key, name in self.spec.features_named_by_drift.items():
            if name not in features:
                raise FeatureSetError(
                    f"model line {self.spec.name!r}: {key}: there is no feature {name!r}: {suggest(name, features)} "
                    "Correct the name in the line's defs.yaml."
                )

    def _find_unchanged(
        self, features: list[str], feature_set: PinnedTable, labels: PinnedTable, now: datetime
    ) -> TrainingSet | None:
        """The newest training set, if its inputs are still these and no row became known since."""
        if self.lake.find(self.name) is None:
            return None
        newest = self.pin()
        same_inputs = (newest.feature_set.version, newest.labels.version) == (feature_set.version, labels.version)
        if not same_inputs or newest.table.columns != [*self._columns(features), LABEL_COLUMN, KNOWN_AT_COLUMN]:
            return None
        if newest.as_known_at_utc > now:
            return None
        known_at, as_of = quote_identifier(self.spec.label.known_at), quote_identifier(self.spec.as_of)
        sql = f"select count(*) as n from labels where {known_at} > ? and {known_at} <= ?"
        sql += f" union all select count(*) from features where {as_of} > ? and {as_of} <= ?"
        since = [newest.as_known_at_utc, now]
        counts = self.lake.query(sql, [*since, *since], features=feature_set, labels=labels).column("n").to_pylist()
        return None if any(counts) else newest

    def _columns(self, features: Sequence[str]) -> list[str]:
        return list(dict.fromkeys((*self.spec.row_key, *self.spec.segment_by, *features)))

    def _joining_sql(self, features: list[str]) -> str:
        columns = ", ".join(f"f.{quote_identifier(c)}" for c in self._columns(features))
        join = " and ".join(f"f.{quote_identifier(c)} = l.{quote_identifier(c)}" for c in self.spec.entity)
        label, known_at = quote_identifier(self.spec.label.column), quote_identifier(self.spec.label.known_at)
        return (
            f"select {columns}, l.{label}::double as {LABEL_COLUMN}, l.{known_at} as {KNOWN_AT_COLUMN} "
            f"from features as f join labels as l on {join} "
            f"where l.{label} is not null and f.{quote_identifier(self.spec.as_of)} <= ? and l.{known_at} <= ?"
        )

    def pin_inputs(self) -> tuple[PinnedTable, PinnedTable]:
        """Feature set and labels as the last completed build left them, pinned together.

        Raises:
            FeatureSetError: when one lacks a column that the line names.
        """
        feature_set, labels = self.lake.pin_published(
            f"{FEATURES_SCHEMA}/{self.spec.feature_set}", f"{MARTS_SCHEMA}/{self.spec.label.model}"
        )
        named = (*self.spec.entity, self.spec.label.column, self.spec.label.known_at)
        _require_columns(labels, named, f"label of {self.spec.name!r}")
        return feature_set, labels

    def read_history(self, feature_set: PinnedTable, labels: PinnedTable, timezone: str) -> pa.Table:
        """Every feature row with its label, both whether or not they are known yet, in the order of a training set.

        Returns:
            The columns of a training set, of which label and `label_known_at_utc` are null for a row without one, and
            `day`, the row's day in `timezone`.
        """
        columns = ", ".join(f"f.{quote_identifier(c)}" for c in self._columns(self.feature_columns(feature_set)))
        join = " and ".join(f"f.{quote_identifier(c)} = l.{quote_identifier(c)}" for c in self.spec.entity)
        label, known_at = quote_identifier(self.spec.label.column), quote_identifier(self.spec.label.known_at)
        order = ", ".join(f"f.{quote_identifier(c)}" for c in self.spec.row_key)
        sql = (
            f"select {columns}, l.{label}::double as {LABEL_COLUMN}, l.{known_at} as {KNOWN_AT_COLUMN}, "
            f"timezone(?, f.{quote_identifier(self.spec.as_of)})::date as day "
            f"from features as f left join labels as l on {join} order by {order}"
        )
        return self.lake.query(sql, [timezone], features=feature_set, labels=labels)

    def read_known_instants(self, labels: PinnedTable) -> pa.Table:
        """When each label became known, in order: the column `known_at`."""
        label, known_at = quote_identifier(self.spec.label.column), quote_identifier(self.spec.label.known_at)
        sql = f"select {known_at} as known_at from t where {label} is not null and {known_at} is not null order by 1"
        return self.lake.query(sql, t=labels)

    def read_features(self, feature_set: PinnedTable, columns: Sequence[str]) -> pa.Table:
        """The row key and the named columns of a pinned feature set, in no order."""
        selected = ", ".join(map(quote_identifier, dict.fromkeys((*self.spec.row_key, *columns))))
        return self.lake.query(f"select {selected} from t", t=feature_set)

    def read(self, table: PinnedTable, segments: Iterable[str] = ()) -> pa.Table:
        """The rows of a pinned training set in their own order: row key, segment key, features and label.

        With `segments` at least their rows come, and no others where the key columns are whole numbers or text.
        """
        order = ", ".join(quote_identifier(c) for c in self.spec.row_key)
        where, parameters = self._segments_condition(table, segments)
        sql = f"select * exclude ({KNOWN_AT_COLUMN}) from t where {where} order by {order}"
        return self.lake.query_large(sql, parameters, t=table)

    def _segments_condition(self, table: PinnedTable, segments: Iterable[str]) -> tuple[str, list[str | None]]:
        kinds = {field.name: str(field.type.type) for field in table.handle.schema().fields if hasattr(field.type, "type")}
        plain = {name for name, kind in kinds.items() if kind in _PLAIN_KEYS}
        by_count = {len(columns): columns for columns in self.spec.levels}
        conditions: list[str] = []
        parameters: list[str | None] = []
        for values in map(segment_values, segments):
            columns = by_count.get(len(values), ())
            if not columns or not set(columns) <= plain:
                return "true", []
            conditions.append(" and ".join(f"{quote_identifier(c)}::varchar is not distinct from ?" for c in columns))
            parameters += values
        return " or ".join(f"({condition})" for condition in conditions) or "true", parameters


def training_set_name(line: str) -> str:
    """The table of a line's training sets."""
    return f"training_sets/{line}"


def read_input_names(lake: Lake, line: str, version: int) -> tuple[str, str] | None:
    """The feature set and the label table that a version of a line's training set was built from; None when it is silent."""
    note = lake.read_note(lake.pin(training_set_name(line), version))
    return (note[_FEATURE_SET], note[_LABELS]) if _FEATURE_SET in note else None


def _require_columns(table: PinnedTable, columns: tuple[str, ...], who: str) -> None:
    missing = sorted(set(columns) - set(table.columns))
    if missing:
        raise FeatureSetError(
            f"{who}: {table.name} has no column {', '.join(missing)}. It has: {', '.join(table.columns)}. "
            "Correct the name in the line's defs.yaml, or add the column to the dbt model."
        )
