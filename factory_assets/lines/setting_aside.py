"""What a cycle holds of each fit while others are still at work: everything that a decision needs, and no more.

Model bytes and drift references are most of a result, and nobody looks at them until the cycle is decided: they are on disk
as soon as the result is here, and come back one segment at a time when they are recorded.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from factory_assets.contracts.reports import FeatureReference
from factory_assets.contracts.segments import ALL
from factory_assets.core.training.segment_training import SegmentResult
from factory_assets.storage.fit_stage import FitStage, StagedValue


@dataclass(frozen=True)
class SetAside:
    """The heavy parts of the results of one cycle."""

    stage: FitStage = field(default_factory=FitStage)
    _places: dict[str, StagedValue] = field(default_factory=dict)

    def keep(self, result: SegmentResult) -> SegmentResult:
        """A result without its heavy parts: a model that is read when it is asked for, and a training without references.

        The scores of the trained model stay as `scores`; once more, and beside their labels, they are kept of the model of
        all rows alone, whose pictures need them.
        """
        trained, model = result.trained, result.model
        if trained is None or model is None:
            return result
        self._places[result.segment] = self.stage.put(trained.references)
        light = replace(trained, references=())
        if result.segment != ALL:
            none = np.empty(0)
            light = replace(light, holdout_scores=none, holdout_labels=none, exam_scores=none)
        return replace(result, trained=light, model=self.stage.put_model(model))

    def references(self, segments: Iterable[str]) -> Mapping[str, Sequence[FeatureReference]]:
        """The references of these segments, each read when it is looked up."""
        return _References(self.stage, {segment: self._places[segment] for segment in segments})


@dataclass(frozen=True)
class _References(Mapping[str, Sequence[FeatureReference]]):
    stage: FitStage
    places: Mapping[str, StagedValue]

    def __getitem__(self, segment: str) -> Sequence[FeatureReference]:
        found: Sequence[FeatureReference] = self.stage.take(self.places[segment])
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)
