"""Trained models as they are recorded, and how a line stands after all that was decided on them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from factory_assets.contracts.fleet import SegmentOutcome
from factory_assets.contracts.reports import Evaluation


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
    def champions(self) -> dict[str, Champion]:
        """Every segment's champion, whether or not it serves."""
        return {segment: found.champion for segment, found in self.segments.items() if found.champion is not None}

    @property
    def serving(self) -> dict[str, Champion]:
        """The champions that serve, by segment; a segment that is not here is served by its nearest parent that is."""
        return {
            segment: standing.champion
            for segment, standing in self.segments.items()
            if standing.serves and standing.champion is not None
        }
