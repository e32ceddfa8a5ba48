"""From recorded versions to scores: the hash is checked, then the one predict path runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from factory_assets.contracts.model_versions import Champion, LineStanding
from factory_assets.core.models.artefacts import AnyModel, Bundle, CorruptArtefactError, unpickle_model
from factory_assets.core.serving.fleet_scoring import ServingModel
from factory_assets.lines.stores import LineStores
from factory_assets.storage.artefact_store import ArtefactMissingError, ArtefactStore


class ModelFiles(Protocol):
    """Where the bytes of models are: in files, or in the memory of a replay."""

    def holds(self, path: str, sha256: str) -> bool:
        """Whether the bytes of a model can be had; they are not looked at."""

    def packed(self, path: str, sha256: str) -> AnyModel | None:
        """A model as it lies in its file, for another file or a worker; None when it is gone."""

    def raw(self, path: str, sha256: str) -> bytes:
        """The bytes of a model, unchecked."""


@dataclass(frozen=True)
class Bundles:
    """Model files, the index of each read at most once. `newest` holds every model that serves, unchanged ones included."""

    store: ArtefactStore
    newest: str = ""
    _read: dict[str, Bundle | None] = field(default_factory=dict)

    def holds(self, path: str, sha256: str) -> bool:
        """Whether the bytes of a model can be had; they are not looked at."""
        return self._find(path, sha256) is not None

    def packed(self, path: str, sha256: str) -> AnyModel | None:
        """A model as it lies in its file, for another file or a worker; None when it is gone."""
        bundle = self._find(path, sha256)
        return None if bundle is None else bundle.packed(sha256, sha256)

    def raw(self, path: str, sha256: str) -> bytes:
        """The bytes of a model, unchecked.

        Raises:
            ArtefactMissingError: when neither the newest file nor its own has it.
            CorruptArtefactError: when the file is damaged.
        """
        bundle = self._find(path, sha256)
        if bundle is None:
            self.store.open(path)  # says which file is gone
            raise ArtefactMissingError(f"the model file {path} has no model {sha256}: retrain the line")
        return bundle.raw(sha256)

    def _find(self, path: str, sha256: str) -> Bundle | None:
        for name in dict.fromkeys(filter(None, (self.newest, path))):
            bundle = self._open(name)
            if bundle is not None and sha256 in bundle:
                return bundle
        return None

    def _open(self, name: str) -> Bundle | None:
        if name not in self._read:
            try:
                self._read[name] = Bundle(self.store.open(name))
            except (ArtefactMissingError, CorruptArtefactError):
                self._read[name] = None
        return self._read[name]


@dataclass(frozen=True)
class ServingFleet:
    """What serves a line now; a model is in memory while its rows are scored, and no longer."""

    champions: Mapping[str, Champion]
    bundles: ModelFiles

    @property
    def models(self) -> dict[str, ServingModel]:
        """The serving models, as scoring takes them."""
        return {segment: serving_model(champion) for segment, champion in self.champions.items()}

    def load(self, model: ServingModel) -> Any:
        """The fitted model.

        Raises:
            UntrustedArtefactError: when the bytes' hash is not the one recorded.
            ArtefactMissingError: when the file is gone.
        """
        raw = self.bundles.raw(self.champions[model.segment].artefact_path, model.sha256)
        return unpickle_model(raw, model.sha256)


def open_fleet(stores: LineStores, standing: LineStanding) -> ServingFleet:
    """The models that serve by `standing`; nothing is read yet."""
    newest = stores.cycles.newest(standing.line, standing.sequence)
    return ServingFleet(standing.serving, Bundles(stores.artefacts, newest.artefact_path if newest else ""))


def serving_model(champion: Champion) -> ServingModel:
    """A champion as scoring takes it."""
    return ServingModel(champion.segment, champion.artefact_sha256, champion.numeric, champion.categorical)


def flatten(metrics: Mapping[str, float], prefix: str) -> dict[str, float]:
    """Metrics under a prefix, as MLflow and Dagster show them."""
    return {f"{prefix}_{name}": value for name, value in metrics.items()}
