"""Windows of feature rows against references, day by day: the counts of a window are the sums of its days'."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from factory_assets.contracts.reports import FeatureReference
from factory_assets.core.backtesting.moments import Moment
from factory_assets.core.drift.frames import compare_frame
from factory_assets.core.drift.measures import Comparison
from factory_assets.core.segments import segment_keys, segment_values
from factory_assets.core.training.fit import PREDICTION
from factory_assets.lines.backtesting.history import History
from factory_assets.lines.backtesting.reigns import Reign

_DAY = timedelta(days=1)


@dataclass
class FeatureWindows:
    """Counts feature rows of whole days; a day under the same references is counted once, whichever policy asks."""

    history: History
    _counted: dict[tuple[tuple[tuple[str, str], ...], int, int], list[Comparison]] = field(default_factory=dict)

    def compare(self, reign: Reign, span: tuple[datetime, datetime], moment: Moment) -> list[Comparison]:
        """The rows of a span of whole days (UTC) beside what each serving model was trained on."""
        references = self._references(reign)
        if not references:
            return []
        key = tuple(sorted((s, reign.standing.serving[s].artefact_sha256) for s in references))
        days = [span[0] + place * _DAY for place in range((span[1] - span[0]) // _DAY)]
        counted = []
        for day in days:
            # By its rows and not its date: of a day that has not wholly arrived there are more to come.
            place = self.history.between((day, day + _DAY), moment)
            if (key, place.start, place.stop) not in self._counted:
                self._counted[key, place.start, place.stop] = self._count(references, place)
            counted.append(self._counted[key, place.start, place.stop])
        return [_add(parts) for parts in zip(*counted, strict=True)]

    def _references(self, reign: Reign) -> dict[str, list[FeatureReference]]:
        spec = self.history.spec
        left_out = {*spec.row_key, PREDICTION, *spec.drift.ignore}
        features = {name for name in (spec.features or self.history.feature_columns) if name not in left_out}
        found = {}
        for segment in sorted(reign.standing.serving):
            model = reign.model(segment)
            if model is not None:
                found[segment] = [reference for reference in model.trained.references if reference.feature in features]
        return {segment: references for segment, references in found.items() if references}

    def _count(self, references: Mapping[str, Sequence[FeatureReference]], place: slice) -> list[Comparison]:
        features = sorted({reference.feature for found in references.values() for reference in found})
        rows = self.history.rows.slice(place.start, place.stop - place.start)
        frame = rows.select(features).to_pandas()
        levels = self.history.spec.levels
        if levels == ((),):
            return compare_frame(references, frame)
        # Each row once for every level, under its key there: a parent was trained on all rows below it.
        frames, keys = [], []
        for columns in levels:
            of_level = [segment for segment in references if len(segment_values(segment)) == len(columns)]
            if of_level:
                names = np.array(segment_keys(rows, columns).to_pylist(), dtype=object)
                mine = np.isin(names.astype(str), of_level)
                frames.append(frame[mine])
                keys.append(names[mine])
        return compare_frame(references, pd.concat(frames), np.concatenate(keys).astype(str))


def _add(parts: Sequence[Comparison]) -> Comparison:
    return replace(
        parts[0],
        current=np.sum([part.current for part in parts], axis=0),
        below=np.sum([part.below for part in parts], axis=0),
        above=np.sum([part.above for part in parts], axis=0),
    )
