"""The one writer of `ops/model_versions` and `ops/promotions`: the truth about models, of which MLflow is the window."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from factory_assets.contracts.fleet import NodeDecision
from factory_assets.contracts.model_versions import Champion, LineStanding, ModelVersion, SegmentStanding
from factory_assets.contracts.reports import Evaluation
from factory_assets.contracts.segments import ALL
from factory_assets.storage.delta.lake import UTC_TIMESTAMP, Lake, TableSpec

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
            ("cycle", pa.string()),
            ("outcome", pa.string()),
            ("champion_before", pa.int64()),
            ("promoted", pa.bool_()),
            ("serves", pa.bool_()),
            ("changed", pa.bool_()),
            ("reason", pa.string()),
            ("challenger_value", pa.float64()),
            ("champion_value", pa.float64()),
            ("parent_value", pa.float64()),
            ("decided_at_utc", UTC_TIMESTAMP),
            ("dagster_run_id", pa.string()),
        ]
    ),
    keys=("line", "segment", "sequence"),
)


class PromotionConflictError(RuntimeError):
    """Somebody else decided on this line meanwhile; the decision has to be taken again on what is there now."""


@dataclass(frozen=True)
class ModelVersions:
    """Reads and writes the model versions and promotions of all lines."""

    lake: Lake

    def get(self, line: str, version: int, segment: str = ALL) -> ModelVersion:
        """One version of a segment.

        Raises:
            LookupError: when it was never recorded.
        """
        rows = self.lake.rows(MODEL_VERSIONS, "line = ? and version = ? and segment = ?", [line, version, segment])
        if not rows:
            raise LookupError(f"model line {line!r} has no recorded version {version} of segment {segment!r}")
        return _from_row(rows[0])

    def record(self, versions: Sequence[ModelVersion]) -> None:
        """Writes versions in one commit; writing them twice changes nothing."""
        if not versions:
            return
        rows = pa.Table.from_pylist([_to_row(v) for v in versions], schema=MODEL_VERSIONS.schema)
        self.lake.upsert(MODEL_VERSIONS, rows)

    def champion(self, line: str, segment: str = ALL) -> ModelVersion | None:
        """The segment's champion: its last promoted version, whether or not it serves (see `standing`)."""
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

    def of_segments(self, line: str, versions: Mapping[str, int]) -> dict[str, ModelVersion]:
        """These versions by segment; one that was never recorded is absent."""
        pinned = self.lake.find(MODEL_VERSIONS.name)
        if pinned is None or not versions:
            return {}
        segments, numbers = pa.array(list(versions), pa.string()), pa.array(versions.values(), pa.int64())
        wanted = pa.table({"segment": segments, "version": numbers})
        sql = "select * from versions semi join wanted using (segment, version) where line = ?"
        found = self.lake.query(sql, [line], versions=pinned, wanted=wanted).to_pylist()
        return {row["segment"]: _from_row(row) for row in found}

    def standing(self, line: str) -> LineStanding:
        """Every segment's state after the last decision, in one query."""
        promotions, versions = self.lake.find(PROMOTIONS.name), self.lake.find(MODEL_VERSIONS.name)
        if promotions is None or versions is None:
            return LineStanding(line)
        rows = self.lake.query(_STANDING_SQL, [line, line], versions=versions, promotions=promotions).to_pylist()
        return LineStanding(
            line,
            sequence=max((row["sequence"] for row in rows), default=0),
            serving_version=max((row["changed_version"] or 0 for row in rows), default=0),
            segments={row["segment"]: _to_standing(row) for row in rows},
        )

    def decisions_on(self, line: str, version: int) -> list[dict[str, Any]]:
        """The decisions that a version of the line brought, by segment."""
        return self.lake.rows(PROMOTIONS, "line = ? and version = ?", [line, version])

    def decide(
        self,
        before: LineStanding,
        version: int,
        decisions: Iterable[tuple[NodeDecision, str]],
        now: datetime,
        run_id: str,
    ) -> None:
        """Records decisions, each with the fingerprint it is of, in one commit; all take effect together or none.

        They take effect only if nothing was decided on the line since `before` was read.

        Raises:
            PromotionConflictError: when another decision on the line came in between.
        """
        sequence = before.sequence + 1
        rows = [decision_row(before, decision, cycle, sequence, version, now, run_id) for decision, cycle in decisions]
        table = pa.Table.from_pylist(rows, schema=PROMOTIONS.schema)
        if not self.lake.append_once(PROMOTIONS, table, f"promotion:{before.line}", sequence):
            raise PromotionConflictError(
                f"model line {before.line!r}: somebody else decided on it while version {version} was judged. "
                f"Nothing was promoted; materialize {before.line}/models again."
            )


# The last decision on each segment, and its last promoted version with what is needed to load it.
_STANDING_SQL = """
with decisions as (
    select
        segment,
        max(sequence) as sequence,
        max_by(cycle, sequence) as cycle,
        max_by(outcome, sequence) as outcome,
        max_by(serves, sequence) as serves,
        max(version) filter (changed) as changed_version,
        max_by(version, sequence) filter (promoted) as champion
    from promotions
    where line = ?
    group by segment
)

select
    d.*,
    v.version,
    v.trained_until_utc,
    v.numeric,
    v.categorical,
    v.artefact_path,
    v.artefact_sha256
from decisions as d
left join (select * from versions where line = ?) as v on d.segment = v.segment and d.champion = v.version
order by d.segment
"""


def _to_standing(row: Mapping[str, Any]) -> SegmentStanding:
    champion = None
    if row["version"] is not None:
        champion = to_champion(row)
    return SegmentStanding(row["cycle"], row["outcome"], row["serves"], champion)


def to_champion(row: Mapping[str, Any]) -> Champion:
    """The light part of a row of `ops/model_versions`."""
    return Champion(
        segment=row["segment"],
        version=row["version"],
        trained_until_utc=row["trained_until_utc"],
        numeric=tuple(row["numeric"]),
        categorical=tuple(row["categorical"]),
        artefact_path=row["artefact_path"],
        artefact_sha256=row["artefact_sha256"],
    )


def decision_row(
    before: LineStanding, decision: NodeDecision, cycle: str, sequence: int, version: int, now: datetime, run_id: str
) -> dict[str, Any]:
    """A decision as `ops/promotions` has it."""
    standing = before.segments.get(decision.segment)
    champion = standing.champion if standing is not None else None
    return {
        "line": before.line,
        "segment": decision.segment,
        "sequence": sequence,
        "version": version,
        "cycle": cycle,
        "outcome": decision.outcome,
        "champion_before": champion.version if champion is not None else None,
        "promoted": decision.promote,
        "serves": decision.serves,
        "changed": decision.promote or decision.serves != (standing is not None and standing.serves),
        "reason": decision.reason,
        "challenger_value": decision.challenger_value,
        "champion_value": decision.champion_value,
        "parent_value": decision.parent_value,
        "decided_at_utc": now,
        "dagster_run_id": run_id,
    }


def _to_row(version: ModelVersion) -> dict[str, Any]:
    row = {name: getattr(version, name) for name in MODEL_VERSIONS.schema.names if hasattr(version, name)}
    evaluation = version.evaluation
    row["metric"] = evaluation.metric
    row["value"] = evaluation.scores[evaluation.metric]
    row["baseline_value"] = evaluation.baseline.get(evaluation.metric)
    row["dummy_value"] = evaluation.dummy[evaluation.metric]
    row["evaluation"] = json.dumps(asdict(evaluation))
    return row


def _from_row(row: dict[str, Any]) -> ModelVersion:
    values = {name: row[name] for name in ModelVersion.__dataclass_fields__}
    values["evaluation"] = Evaluation(**json.loads(row["evaluation"]))
    values["numeric"] = tuple(row["numeric"])
    values["categorical"] = tuple(row["categorical"])
    return ModelVersion(**values)
