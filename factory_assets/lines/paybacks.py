"""Judges the promotions of a line that have enough behind them: both models score the same later rows, in one pass."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from factory_assets.contracts.model_line import ModelLineSpec, Task
from factory_assets.contracts.model_versions import Champion
from factory_assets.contracts.paybacks import Gain, Payback, Replacement
from factory_assets.core.models.artefacts import UntrustedArtefactError, unpickle_model
from factory_assets.core.models.features import prepare_features
from factory_assets.core.models.prediction import predict_prepared
from factory_assets.core.retraining.paybacks import evaluate_gain, find_replacements, find_rows, is_due, leave_undecided
from factory_assets.lines.serving import Bundles
from factory_assets.lines.stores import LineStores
from factory_assets.storage.artefact_store import ArtefactMissingError
from factory_assets.storage.delta.lake import Lake, PinnedTable
from factory_assets.storage.tables.labelled_rows import DAY, LABEL
from factory_assets.storage.tables.paybacks import Paybacks
from factory_assets.storage.tables.promotion_history import PromotionHistory, RecordedModel


@dataclass(frozen=True)
class PaybackOutcome:
    """What was judged now, and the promotions that still wait for time or for labelled rows."""

    judged: tuple[Payback, ...]
    waiting: tuple[Replacement, ...]


def find_unjudged(lake: Lake, spec: ModelLineSpec) -> list[Replacement]:
    """The promotions of a line that replaced a model and were not judged yet, oldest first."""
    judged = {(row["segment"], row["version"]) for row in Paybacks(lake).of_line(spec.name)}
    replacements = find_replacements(PromotionHistory(lake).decisions(spec.name), spec.levels)
    return [found for found in replacements if (found.segment, found.version) not in judged]


def judge_paybacks(stores: LineStores, now: datetime) -> PaybackOutcome:
    """Judges every promotion that is due at `now`, and records all judgements in one commit.

    The replaced model is a shadow: it scores the rows that it would have scored, from the bytes that it served with.

    Raises:
        UntrustedArtefactError: when a model's bytes are not those that were recorded.
    """
    unjudged = find_unjudged(stores.lake, stores.spec)
    ripe = [found for found in unjudged if now - found.promoted_at_utc >= stores.spec.retrain.payback.window]
    if not ripe:
        return PaybackOutcome((), tuple(unjudged))
    tables = stores.labelled_rows.pin()
    keys = stores.labelled_rows.read(tables, (), min(found.promoted_at_utc for found in ripe), now)
    policy, levels = stores.spec.retrain.payback, stores.spec.levels
    counts = find_rows(keys, stores.spec.as_of, levels, ripe)
    due = [found for found in ripe if is_due(policy, found, len(counts.get(found, ())), now)]
    judged = _judge(stores, tables, due, now) if due else []
    stores.paybacks.record(stores.spec.name, judged)
    settled = {payback.replacement for payback in judged}
    return PaybackOutcome(tuple(judged), tuple(found for found in unjudged if found not in settled))


def _judge(
    stores: LineStores, tables: tuple[PinnedTable, PinnedTable], due: Sequence[Replacement], now: datetime
) -> list[Payback]:
    spec = stores.spec
    pairs = [pair for found in due for pair in _pairs(found)]
    recorded = PromotionHistory(stores.lake).recorded(spec.name, pairs)
    reads = {name for known in recorded.values() for name in (*known.model.numeric, *known.model.categorical)}
    present = [name for name in tables[0].columns if name in reads]
    rows = stores.labelled_rows.read(tables, present, min(found.promoted_at_utc for found in due), now)
    shadows = _Shadows(rows.to_pandas(), spec.task, Bundles(stores.artefacts), Counter(_hashes(recorded, pairs)))
    places = find_rows(rows, spec.as_of, spec.levels, due)
    labels, days = rows.column(LABEL).to_numpy(), rows.column(DAY).to_numpy()
    with threadpool_limits(limits=1):
        return [
            Payback(found, now, _compare(stores, found, recorded, shadows, places[found], labels, days), now)
            for found in due
        ]


def _compare(
    stores: LineStores,
    found: Replacement,
    recorded: Mapping[tuple[str, int], RecordedModel],
    shadows: "_Shadows",
    places: np.ndarray,
    labels: np.ndarray,
    days: np.ndarray,
) -> Gain:
    spec = stores.spec
    models = [recorded.get(pair) for pair in _pairs(found)]
    try:
        own, replaced = (shadows.score(known, places) for known in models)
    except UntrustedArtefactError:
        raise
    except (ArtefactMissingError, ValueError) as error:
        # A model that cannot be asked any more must not keep the others from being judged.
        return leave_undecided(spec.metric, len(places), f"Undecided: {error}.")
    value, dummy = (None, None) if models[1] is None else (models[1].value, models[1].dummy_value)
    skill = math.nan if value is None or dummy is None else value - dummy
    return evaluate_gain(
        spec.retrain.payback, spec.metric, labels[places], own, replaced, days[places], skill, spec.validation.seed
    )


def _pairs(found: Replacement) -> tuple[tuple[str, int], tuple[str, int]]:
    return (found.segment, found.version), (found.replaced_segment, found.replaced_version)


def _hashes(recorded: Mapping[tuple[str, int], RecordedModel], pairs: Sequence[tuple[str, int]]) -> list[str]:
    return [recorded[pair].model.artefact_sha256 for pair in pairs if pair in recorded]


@dataclass
class _Shadows:
    """Scores of recorded models on one frame. Features are made ready once; a model that is asked again is kept."""

    frame: pd.DataFrame
    task: Task
    bundles: Bundles
    asked: Counter[str]
    _prepared: dict[tuple[tuple[str, ...], tuple[str, ...]], pd.DataFrame] = field(default_factory=dict)
    _loaded: dict[str, Any] = field(default_factory=dict)

    def score(self, known: RecordedModel | None, places: np.ndarray) -> np.ndarray:
        """Scores of the rows at `places`.

        Raises:
            ArtefactMissingError: when the model was never recorded, or its bytes are gone.
            ValueError: when the rows lack a feature that it reads.
        """
        if known is None:
            raise ArtefactMissingError("one of the two models is not recorded")
        model = known.model
        reads = (model.numeric, model.categorical)
        if reads not in self._prepared:
            self._prepared[reads] = prepare_features(self.frame, *reads)
        return predict_prepared(self._load(model), self._prepared[reads].iloc[places], self.task)

    def _load(self, model: Champion) -> Any:
        if model.artefact_sha256 in self._loaded:
            return self._loaded[model.artefact_sha256]
        raw = self.bundles.raw(model.artefact_path, model.artefact_sha256)
        loaded = unpickle_model(raw, model.artefact_sha256)
        if self.asked[model.artefact_sha256] > 1:
            self._loaded[model.artefact_sha256] = loaded
        return loaded
