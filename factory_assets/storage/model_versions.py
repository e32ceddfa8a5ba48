"""The one writer of `ops/model_versions` and `ops/promotions`: the truth about models, of which MLflow is the window."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from factory_assets.contracts.reports import Evaluation, PromotionDecision
from factory_assets.core.segments import ALL
from factory_assets.storage.delta import UTC_TIMESTAMP, Lake, TableSpec

ONLY_SEGMENT = ALL

MODEL_VERSIONS = TableSpec(
    name="ops/model_versions",
    schema=pa.schema(
        [
            ("line", pa.string()),
            ("segment", pa.string()),
            ("version", pa.int64()),
            ("cycle", pa.string()),
            ("trained_at_utc", UTC_TIMESTAMP),
            ("trained_until_utc", UTC_TIMESTAMP),
            ("holdout_until_utc", UTC_TIMESTAMP),
            ("training_set_version", pa.int64()),
            ("feature_set_version", pa.int64()),
            ("label_version", pa.int64()),
            ("metric", pa.string()),
            ("value", pa.float64()),
            ("baseline_value", pa.float64()),
            ("dummy_value", pa.float64()),
            ("evaluation", pa.string()),
            ("numeric", pa.list_(pa.string())),
            ("categorical", pa.list_(pa.string())),
            ("artefact_path", pa.string()),
            ("artefact_sha256", pa.string()),
            ("estimator", pa.string()),
            ("sklearn_version", pa.string()),
            ("git_commit", pa.string()),
            ("mlflow_run_id", pa.string()),
            ("dagster_run_id", pa.string()),
        ]
    ),
    keys=("line", "segment", "version"),
)

PROMOTIONS = TableSpec(
    name="ops/promotions",
    schema=pa.schema(
        [
            ("line", pa.string()),
            ("segment", pa.string()),
            ("sequence", pa.int64()),
            ("version", pa.int64()),
            ("champion_before", pa.int64()),
            ("promoted", pa.bool_()),
            ("reason", pa.string()),
            ("challenger_value", pa.float64()),
            ("champion_value", pa.float64()),
            ("decided_at_utc", UTC_TIMESTAMP),
            ("dagster_run_id", pa.string()),
        ]
    ),
    keys=("line", "segment", "sequence"),
)


@dataclass(frozen=True)
class ModelVersion:
    """One trained model of one segment: where its bytes lie, their hash, and all that its training saw."""

    line: str
    segment: str
    version: int
    cycle: str
    trained_at_utc: datetime
    trained_until_utc: datetime
    holdout_until_utc: datetime
    training_set_version: int
    feature_set_version: int
    label_version: int
    evaluation: Evaluation
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    artefact_path: str
    artefact_sha256: str
    estimator: str
    sklearn_version: str
    git_commit: str
    mlflow_run_id: str
    dagster_run_id: str


class PromotionConflictError(RuntimeError):
    """Somebody else decided on this line meanwhile; the decision has to be taken again on what is there now."""


@dataclass(frozen=True)
class ModelVersions:
    """Reads and writes the model versions and promotions of all lines."""

    lake: Lake

    def find_cycle(self, line: str, cycle: str) -> ModelVersion | None:
        """The version that this training cycle already gave, if it did."""
        rows = self.lake.rows(MODEL_VERSIONS, "line = ? and cycle = ?", [line, cycle])
        return _from_row(rows[0]) if rows else None

    def get(self, line: str, version: int) -> ModelVersion:
        """One version of a line.

        Raises:
            LookupError: when it was never recorded.
        """
        rows = self.lake.rows(MODEL_VERSIONS, "line = ? and version = ?", [line, version])
        if not rows:
            raise LookupError(f"model line {line!r} has no recorded version {version}")
        return _from_row(rows[0])

    def record(self, version: ModelVersion) -> None:
        """Writes one version; writing it twice changes nothing."""
        self.lake.upsert(MODEL_VERSIONS, pa.Table.from_pylist([_to_row(version)], schema=MODEL_VERSIONS.schema))

    def champion(self, line: str, segment: str = ONLY_SEGMENT) -> ModelVersion | None:
        """The version that serves now: the last promoted one."""
        promotions, versions = self.lake.find(PROMOTIONS.name), self.lake.find(MODEL_VERSIONS.name)
        if promotions is None or versions is None:
            return None
        found = self.lake.query(
            "select v.* from versions as v join promotions as p using (line, segment, version) "
            "where p.promoted and line = ? and segment = ? order by p.sequence desc limit 1",
            [line, segment],
            versions=versions,
            promotions=promotions,
        ).to_pylist()
        return _from_row(found[0]) if found else None

    def promotions(self, line: str, segment: str = ONLY_SEGMENT) -> list[dict[str, Any]]:
        """Every decision on a line, oldest first: promoted or not, with its reason."""
        return self.lake.rows(PROMOTIONS, "line = ? and segment = ?", [line, segment])

    def decide(
        self,
        version: ModelVersion,
        champion_before: int | None,
        decision: PromotionDecision,
        now: datetime,
        run_id: str,
    ) -> None:
        """Records the gate's decision; it takes effect only if the champion still is `champion_before`.

        Raises:
            PromotionConflictError: when another decision on the line came in between.
        """
        history = self.promotions(version.line, version.segment)
        if any(row["version"] == version.version for row in history):
            return
        champion_now = next((row["version"] for row in reversed(history) if row["promoted"]), None)
        row = {
            "line": version.line,
            "segment": version.segment,
            "sequence": len(history) + 1,
            "version": version.version,
            "champion_before": champion_before,
            "promoted": decision.promote,
            "reason": decision.reason,
            "challenger_value": decision.challenger_value,
            "champion_value": decision.champion_value,
            "decided_at_utc": now,
            "dagster_run_id": run_id,
        }
        rows = pa.Table.from_pylist([row], schema=PROMOTIONS.schema)
        application = f"promotion:{version.line}:{version.segment}"
        if champion_now != champion_before or not self.lake.append_once(PROMOTIONS, rows, application, len(history) + 1):
            raise PromotionConflictError(
                f"model line {version.line!r}: the champion changed from {champion_before} to {champion_now} while version "
                f"{version.version} was judged. Nothing was promoted; materialize {version.line}/models again."
            )


def _to_row(version: ModelVersion) -> dict[str, Any]:
    row = {name: getattr(version, name) for name in MODEL_VERSIONS.schema.names if hasattr(version, name)}
    evaluation = version.evaluation
    row["metric"] = evaluation.metric
    row["value"] = evaluation.scores[evaluation.metric]
    row["baseline_value"] = evaluation.baseline[evaluation.metric]
    row["dummy_value"] = evaluation.dummy[evaluation.metric]
    row["evaluation"] = json.dumps(asdict(evaluation))
    return row


def _from_row(row: dict[str, Any]) -> ModelVersion:
    values = {name: row[name] for name in ModelVersion.__dataclass_fields__}
    values["evaluation"] = Evaluation(**json.loads(row["evaluation"]))
    values["numeric"] = tuple(row["numeric"])
    values["categorical"] = tuple(row["categorical"])
    return ModelVersion(**values)
