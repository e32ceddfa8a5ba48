"""Which column comes from which, as Dagster shows it: from a source's column over the feature to the model's score."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from factory_assets.components.naming import table_key
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.storage.tables.training_sets import FEATURES_SCHEMA, KNOWN_AT_COLUMN, LABEL_COLUMN, MARTS_SCHEMA

LINEAGE_KEY = "dagster/column_lineage"
SCORE_COLUMN = "score"


def table_lineage(values_from: Mapping[str, Iterable[tuple[str, str]]]) -> dict[str, Any]:
    """Metadata for a table of the lake; what its columns come from is named by '<schema>.<table>' and column."""
    deps = {
        column: [dg.TableColumnDep(table_key(*table.split(".", 1)), name) for table, name in came]
        for column, came in values_from.items()
    }
    return {LINEAGE_KEY: dg.TableColumnLineage(deps)}


def training_set_lineage(spec: ModelLineSpec, columns: Sequence[str]) -> dict[str, Any]:
    """Metadata of a training set with these columns: features and keys of the feature set, the label of its mart."""
    features, labels = f"{FEATURES_SCHEMA}.{spec.feature_set}", f"{MARTS_SCHEMA}.{spec.label.model}"
    came: dict[str, list[tuple[str, str]]] = {column: [(features, column)] for column in columns}
    came |= {LABEL_COLUMN: [(labels, spec.label.column)], KNOWN_AT_COLUMN: [(labels, spec.label.known_at)]}
    return table_lineage({column: came[column] for column in columns})


def prediction_lineage(spec: ModelLineSpec, features: Sequence[str]) -> dict[str, Any]:
    """Metadata of predictions: the score comes from every feature of the model."""
    table = f"{FEATURES_SCHEMA}.{spec.feature_set}"
    keys = {column: [(table, column)] for column in spec.row_key}
    return table_lineage({**keys, SCORE_COLUMN: [(table, column) for column in features]})
