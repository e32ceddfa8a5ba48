"""The storage objects that the work on one line needs, together."""

from dataclasses import dataclass

from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.storage.artefact_store import ArtefactStore
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.mlflow.registry import MlflowRegistry
from factory_assets.storage.tables.check_results import CheckResults
from factory_assets.storage.tables.drift_references import DriftReferences
from factory_assets.storage.tables.drift_results import DriftResults
from factory_assets.storage.tables.drift_samples import DriftSamples
from factory_assets.storage.tables.feature_hashes import FeatureHashes
from factory_assets.storage.tables.holdout_scores import HoldoutScoresTable
from factory_assets.storage.tables.labelled_rows import LabelledRows
from factory_assets.storage.tables.model_versions import ModelVersions
from factory_assets.storage.tables.paybacks import Paybacks
from factory_assets.storage.tables.predictions import Predictions
from factory_assets.storage.tables.retrain_ledger import RetrainLedger
from factory_assets.storage.tables.scored_labels import ScoredLabels
from factory_assets.storage.tables.training_cycles import TrainingCycles
from factory_assets.storage.tables.training_sets import TrainingSets


@dataclass(frozen=True)
class LineStores:
    """One line's view of the lake, the artefacts and MLflow, and where its fleet is fitted.

    `sources` are those that its tables are built from, and `calendar` cuts its days. `hindrance`: why no day may be scored
    now, beside broken sources; empty when nothing is in the way. `workers` absent: one a core. `ray_address`: of the running
    cluster, for a line with `executor: ray`.
    """

    spec: ModelLineSpec
    lake: Lake
    artefacts: ArtefactStore
    registry: MlflowRegistry
    sources: tuple[str, ...] = ()
    calendar: CalendarSpec | None = None
    hindrance: str = ""
    workers: int | None = None
    ray_address: str | None = None

    @property
    def training_sets(self) -> TrainingSets:
        """The line's training sets."""
        return TrainingSets(self.lake, self.spec)

    @property
    def predictions(self) -> Predictions:
        """The line's predictions."""
        return Predictions(self.lake, self.spec)

    @property
    def versions(self) -> ModelVersions:
        """Model versions and promotions."""
        return ModelVersions(self.lake)

    @property
    def cycles(self) -> TrainingCycles:
        """The record of training cycles."""
        return TrainingCycles(self.lake)

    @property
    def ledger(self) -> RetrainLedger:
        """The retrain ledger."""
        return RetrainLedger(self.lake)

    @property
    def checks(self) -> CheckResults:
        """The record of verdicts."""
        return CheckResults(self.lake)

    @property
    def references(self) -> DriftReferences:
        """What the training rows of each version looked like."""
        return DriftReferences(self.lake)

    @property
    def drift_samples(self) -> DriftSamples:
        """A sample of the rows that each version of the model of all rows was trained on."""
        return DriftSamples(self.lake)

    @property
    def holdout_scores(self) -> HoldoutScoresTable:
        """What the parents of a fleet scored on their holdouts."""
        return HoldoutScoresTable(self.lake)

    @property
    def drift_results(self) -> DriftResults:
        """The record of drift, by segment and feature."""
        return DriftResults(self.lake)

    @property
    def scored_labels(self) -> ScoredLabels:
        """Scores beside the labels that are known."""
        return ScoredLabels(self.lake, self.spec)

    @property
    def paybacks(self) -> Paybacks:
        """Judgements on promotions."""
        return Paybacks(self.lake)

    @property
    def labelled_rows(self) -> LabelledRows:
        """Feature rows beside the labels that are known."""
        return LabelledRows(self.lake, self.spec)

    @property
    def feature_hashes(self) -> FeatureHashes:
        """What scoring saw of a sample of rows."""
        return FeatureHashes(self.lake, self.spec)
