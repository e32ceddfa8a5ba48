"""The one writer of `ops/model_versions` and `ops/promotions`: the truth about models, of which MLflow is the window."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa

from factory_assets.contracts.fleet import NodeDecision, SegmentOutcome
from factory_assets.contracts.reports import Evaluation
from factory_assets.core.segments import ALL
from factory_assets.storage.delta.lake import UTC_TIMESTAMP, Lake, TableSpec

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


@dataclass(frozen=True)
class ModelVersion:
    """One trained model of one segment: where its bytes lie, their hash, and all that its training saw.

    `artefact_path` is empty for a challenger of a fleet that never served: its bytes are not kept.
    """

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


@dataclass(frozen=True)
class Champion:
    """What is needed to load and to credit a segment's champion; the light part of its `ModelVersion`."""

    segment: str
    version: int
    trained_until_utc: datetime
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    artefact_path: str
    artefact_sha256: str


@dataclass(frozen=True)
class RecordedModel:
    """A version with what it and the dummy came to on its holdout; its bytes may be gone."""

    model: Champion
    value: float | None
    dummy_value: float | None


@dataclass(frozen=True)
class SegmentStanding:
    """How one segment stands: its last outcome with the fingerprint it was of, and whether its champion serves it."""

    cycle: str
    outcome: SegmentOutcome
    serves: bool
    champion: Champion | None


@dataclass(frozen=True)
class LineStanding:
    """All that was decided on a line so far. `sequence` numbers the last decision: what comes next builds on it.

    `serving_version` is the newest version of the line that changed what serves, 0 before any did.
    """

    line: str
    sequence: int = 0
    serving_version: int = 0
    segments: Mapping[str, SegmentStanding] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether the record of every champion that serves is there."""
        return all(standing.champion is not None for standing in self.segments.values() if standing.serves)

    @property
    def serving(self) -> dict[str, Champion]:
        """The champions that serve, by segment; a segment that is not here is served by its nearest parent that is."""
        return {
            segment: standing.champion
            for segment, standing in self.segments.items()
            if standing.serves and standing.champion is not None
        }


class PromotionConflictError(RuntimeError):
    """Somebody else decided on this line meanwhile; the decision has to be taken again on what is there now."""


@dataclass(frozen=True)
class ModelVersions:
    """Reads and writes the model versions and promotions of all lines."""

    lake: Lake

    def find_cycle(self, line: str, cycle: str) -> ModelVersion | None:
        """The version that this training gave already, if it did."""
        rows = self.lake.rows(MODEL_VERSIONS, "line = ? and cycle = ?", [line, cycle])
        return _from_row(rows[0]) if rows else None

    def get(self, line: str, version: int, segment: str = ONLY_SEGMENT) -> ModelVersion:
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

    def champion(self, line: str, segment: str = ONLY_SEGMENT) -> ModelVersion | None:
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

    def decisions(self, line: str) -> list[dict[str, Any]]:
        """All decisions on a line's segments, oldest first; of each only what says who served."""
        pinned = self.lake.find(PROMOTIONS.name)
        return [] if pinned is None else self.lake.query(_DECISIONS_SQL, [line], promotions=pinned).to_pylist()

    def recorded(self, line: str, pairs: Iterable[tuple[str, int]]) -> dict[tuple[str, int], "RecordedModel"]:
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
            (row["segment"], row["version"]): RecordedModel(_to_champion(row), row["value"], row["dummy_value"])
            for row in rows
        }

    def promotions(self, line: str, segment: str = ONLY_SEGMENT) -> list[dict[str, Any]]:
        """Every decision on a segment, oldest first: promoted or not, with its reason."""
        return self.lake.rows(PROMOTIONS, "line = ? and segment = ?", [line, segment])

    def decisions_on(self, line: str, version: int) -> list[dict[str, Any]]:
        """The decisions that a version of the line brought, by segment."""
        return self.lake.rows(PROMOTIONS, "line = ? and version = ?", [line, version])

    def failed_segments(self, line: str) -> dict[str, str]:
        """The segments whose last training failed, with the reason."""
        rows = self.lake.rows(
            PROMOTIONS, "line = ? qualify row_number() over (partition by segment order by sequence desc) = 1", [line]
        )
        return {row["segment"]: row["reason"] for row in rows if row["outcome"] == "failed"}

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

_DECISIONS_SQL = """
    select segment, sequence, version, promoted, serves, decided_at_utc
    from promotions
    where line = ?
    order by sequence, segment
"""
_RECORDED_SQL = """
    select segment, version, trained_until_utc, numeric, categorical, artefact_path, artefact_sha256, value, dummy_value
    from versions semi join wanted using (segment, version)
    where line = ?
"""


def _to_standing(row: Mapping[str, Any]) -> SegmentStanding:
    champion = None
    if row["version"] is not None:
        champion = _to_champion(row)
    return SegmentStanding(row["cycle"], row["outcome"], row["serves"], champion)


def _to_champion(row: Mapping[str, Any]) -> Champion:
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
