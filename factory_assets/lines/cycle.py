"""A cycle between its fits and its record: what was learnt, what was decided, and what it stands on."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from factory_assets.contracts.fleet import FleetReport, NodeDecision
from factory_assets.contracts.model_versions import LineStanding
from factory_assets.core.models.artefacts import AnyModel
from factory_assets.core.training.fit import TrainedModel
from factory_assets.core.training.segment_training import SegmentResult
from factory_assets.lines.planning import Plan
from factory_assets.lines.segment_entries import SegmentEntries
from factory_assets.lines.setting_aside import SetAside
from factory_assets.storage.tables.training_sets import TrainingSet


@dataclass(frozen=True)
class Cycle:
    """A cycle that was fitted and decided, and is to be recorded. `key` names it, `inputs` finds it before a row is read."""

    key: str
    inputs: str
    training_set: TrainingSet
    plan: Plan
    results: Mapping[str, SegmentResult]
    aside: SetAside
    entries: SegmentEntries
    cpu_seconds: Mapping[str, float]
    pictures: Mapping[str, bytes]
    decisions: Mapping[str, NodeDecision]
    report: FleetReport | None
    before: LineStanding
    deepest_level: int
    now: datetime
    run_id: str

    @property
    def fitted(self) -> dict[str, tuple[TrainedModel, AnyModel]]:
        """What was fitted, by segment."""
        return {
            segment: (result.trained, result.model)
            for segment, result in self.results.items()
            if result.trained is not None and result.model is not None
        }
