"""What is decided on the segments of a fleet, and on the fleet as a whole."""

from dataclasses import dataclass, replace
from typing import Literal

# What became of a segment's training: only `failed` is mended by running again, and `scored` was not asked to train.
SegmentOutcome = Literal["fitted", "scored", "too_small", "single_class", "failed"]


@dataclass(frozen=True)
class NodeDecision:
    """What was decided on one segment, or one of its parents.

    `promote`: its new model becomes its champion. `serves`: its champion serves it; else the next serving parent does.
    Values are the line's metric on the segment's own later rows, None where there is none.
    """

    segment: str
    outcome: SegmentOutcome
    promote: bool
    serves: bool
    reason: str
    challenger_value: float | None
    champion_value: float | None
    parent_value: float | None

    def stand_back(self, reason: str) -> "NodeDecision":
        """The same segment served by its parent."""
        return replace(self, promote=False, serves=False, reason=reason)

    def keep_outcome(self, outcome: SegmentOutcome) -> "NodeDecision":
        """The same decision on a segment that was not trained now, with the outcome of its last training."""
        return replace(self, outcome=outcome)


@dataclass(frozen=True)
class FleetReport:
    """A whole fleet on its exam: with its hierarchy (`value`) beside its global model alone, on the same rows.

    Both are NaN without rows, or where the metric is undefined on them. `deepest_level` is the depth that serves, 0 for
    the segments. `objections` say why the fleet does not go down to each level below its global model, in half a sentence,
    empty for one to which it may.
    """

    metric: str
    rows: int
    value: float
    global_value: float
    deepest_level: int
    objections: tuple[str, ...]
