"""What each model of a dbt project means and which columns its columns come from, kept beside the manifest.

Working it out takes some milliseconds a model and the parser's import; the answer is read from a file as long as the
manifest is the same.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from filelock import FileLock

from factory_assets.core.transformations.lineage import asks_for_columns
from factory_assets.storage.dbt.runs import DbtRuns

# Raised when the same query gets another fingerprint, or when more of it is kept.
_FORMAT = 2


@dataclass(frozen=True)
class TableMeaning:
    """The fingerprint of one model, and for each of its columns the (table, column) that its values come from.

    `is_open`: it may have more columns, which its text does not name.
    """

    fingerprint: str
    values_from: Mapping[str, tuple[tuple[str, str], ...]]
    is_open: bool = True


def read_table_meanings(runs: DbtRuns, manifest: Mapping[str, Any]) -> dict[str, TableMeaning]:
    """The meaning of each table of `manifest`, which `runs` has read, by '<schema>.<table>'."""
    stamp = f"{_FORMAT} {version('sqlglot')} {(runs.work / 'manifest.stamp').read_text()}"
    kept = runs.work / "meanings.json"
    with FileLock(runs.work / "manifest.lock"):
        if kept.is_file():
            found = json.loads(kept.read_text(encoding="utf-8"))
            if found["stamp"] == stamp:
                return {table: _from_json(meaning) for table, meaning in found["tables"].items()}
        meanings = _work_out(manifest)
        tables = {table: asdict(meaning) for table, meaning in meanings.items()}
        kept.write_text(json.dumps({"stamp": stamp, "tables": tables}), encoding="utf-8")
    return meanings


def _work_out(manifest: Mapping[str, Any]) -> dict[str, TableMeaning]:
    from factory_assets.core.transformations.query_meaning.relations import ANY_COLUMN, ROWS
    from factory_assets.storage.dbt.definitions import list_models, read_meanings

    models = list_models(manifest)
    # A text that was compiled without the lake lacks the columns that it asks the lake for.
    asking = {model.table for model in models if asks_for_columns(manifest, model.unique_id)}
    found = {}
    for table, meaning in read_meanings(models, {}, {}).items():
        columns = {
            name: tuple(sorted(source for source in column.values_from if source[1] not in (ROWS, ANY_COLUMN)))
            for name, column in meaning.query.columns.items()
        }
        found[table] = TableMeaning(meaning.fingerprint, columns, meaning.query.is_open or table in asking)
    return found


def _from_json(meaning: Mapping[str, Any]) -> TableMeaning:
    columns = {name: tuple((table, column) for table, column in came) for name, came in meaning["values_from"].items()}
    return TableMeaning(meaning["fingerprint"], columns, meaning["is_open"])
