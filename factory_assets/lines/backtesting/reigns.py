"""How a line stands in a replay: what `ops/promotions` and `ops/model_versions` hold in production, in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from factory_assets.contracts.fleet import NodeDecision
from factory_assets.contracts.model_versions import Champion, LineStanding, SegmentStanding
from factory_assets.contracts.segments import ALL
from factory_assets.core.models.artefacts import AnyModel, unpack_payload, unpickle_model
from factory_assets.core.serving.left_over import HoldoutScores
from factory_assets.core.training.fit import TrainedModel
from factory_assets.core.training.segment_training import SegmentResult
from factory_assets.lines.decisions import list_changes
from factory_assets.lines.holdouts import gather_holdouts
from factory_assets.lines.planning import Plan
from factory_assets.storage.artefact_store import ArtefactMissingError
from factory_assets.storage.tables.model_versions import decision_row


@dataclass
class ModelShelf:
    """Models of a replay by their hash, each unpickled at most once: it takes the place of model files."""

    models: dict[str, AnyModel] = field(default_factory=dict)
    _loaded: dict[str, Any] = field(default_factory=dict)

    def put(self, model: AnyModel) -> None:
        """Keeps a model."""
        self.models[model.sha256] = model

    def holds(self, path: str, sha256: str) -> bool:
        """Whether the model is there."""
        return sha256 in self.models

    def packed(self, path: str, sha256: str) -> AnyModel | None:
        """The model as it would lie in its file."""
        return self.models.get(sha256)

    def raw(self, path: str, sha256: str) -> bytes:
        """The bytes of a model.

        Raises:
            ArtefactMissingError: for one that was never put here.
        """
        if sha256 not in self.models:
            raise ArtefactMissingError(f"the replay has no model {sha256}")
        return unpack_payload(self.models[sha256], sha256)

    def load(self, sha256: str) -> Any:
        """The fitted model."""
        if sha256 not in self._loaded:
            self._loaded[sha256] = unpickle_model(self.raw("", sha256), sha256)
        return self._loaded[sha256]


@dataclass(frozen=True)
class KnownModel:
    """What judging wants to know of a version: its evaluation and references, and its holdout, by rows for a parent."""

    version: int
    trained: TrainedModel
    artefact_sha256: str
    trained_at_utc: datetime
    holdout_until_utc: datetime
    holdout: HoldoutScores | None = None


@dataclass(frozen=True)
class Reign:
    """Who serves a line in a replay, and what is known of these models."""

    standing: LineStanding
    models: Mapping[tuple[str, int], KnownModel] = field(default_factory=dict)
    deepest_level: int | None = None

    @property
    def versions(self) -> dict[str, int]:
        """The champion of each segment, as a decision on retraining sees them."""
        segments = self.standing.segments.items()
        return {segment: standing.champion.version for segment, standing in segments if standing.champion is not None}

    @property
    def champion(self) -> KnownModel | None:
        """The champion of all rows."""
        return self.model(ALL)

    def model(self, segment: str) -> KnownModel | None:
        """The champion of a segment."""
        version = self.versions.get(segment)
        return None if version is None else self.models[segment, version]

    @property
    def serving_models(self) -> dict[str, KnownModel]:
        """The champions that serve, in the order of their segments."""
        return {segment: self.models[segment, c.version] for segment, c in sorted(self.standing.serving.items())}

    def decide(
        self,
        plan: Plan,
        results: Mapping[str, SegmentResult],
        decisions: Mapping[str, NodeDecision],
        now: datetime,
        deepest_level: int | None,
    ) -> tuple["Reign", list[dict[str, Any]]]:
        """The reign after a cycle's decisions, which take effect together; and their rows as the lake would have them."""
        before, spec = self.standing, plan.job.spec
        sequence = before.sequence + 1
        segments, models, rows = dict(before.segments), dict(self.models), []
        promoted = {segment: results[segment].scores for segment, decision in decisions.items() if decision.promote}
        holdouts = gather_holdouts(plan, {segment: scores for segment, scores in promoted.items() if scores is not None})
        for segment, decision in list_changes(decisions, before, plan.to_fit).items():
            old = before.segments.get(segment)
            trained_now = segment in plan.to_fit or old is None
            cycle = plan.cycles[segment] if trained_now or old is None else old.cycle
            rows.append(decision_row(before, decision, cycle, sequence, sequence, now, ""))
            champion = old.champion if old is not None else None
            result = results[segment]
            if decision.promote and result.trained is not None and result.model is not None:
                trained, sha256 = result.trained, result.model.sha256
                cut = plan.job.holdout_until_utc - spec.validation.holdout
                champion = Champion(segment, sequence, cut, trained.numeric, trained.categorical, sha256, sha256)
                until, holdout = plan.job.holdout_until_utc, holdouts.get(segment)
                models[segment, sequence] = KnownModel(sequence, trained, sha256, now, until, holdout)
            segments[segment] = SegmentStanding(cycle, decision.outcome, decision.serves, champion)
        changed = any(row["changed"] for row in rows)
        standing = replace(
            before,
            sequence=sequence,
            serving_version=sequence if changed else before.serving_version,
            segments=segments,
        )
        return Reign(standing, models, deepest_level), rows
