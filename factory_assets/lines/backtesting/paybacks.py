"""Did the promotions of a replay pay? Judged once enough lies behind them, as in production; it lengthens cooldowns."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.paybacks import Replacement, RetrainResult
from factory_assets.contracts.retraining import BY_HAND
from factory_assets.core.backtesting.moments import Moment
from factory_assets.core.models.prediction import predict_scores
from factory_assets.core.retraining import LedgerBook
from factory_assets.core.retraining.paybacks import evaluate_gain, find_replacements, find_rows, is_due
from factory_assets.core.retraining.payments import PaymentRecord, evaluate_payments
from factory_assets.lines.backtesting.history import History
from factory_assets.lines.backtesting.reigns import KnownModel, ModelShelf, Reign
from factory_assets.storage.tables.training_sets import LABEL_COLUMN

_MICROSECONDS_A_DAY = 86_400_000_000


@dataclass
class Paybacks:
    """The promotions of one policy, and how those that are judged have paid."""

    spec: ModelLineSpec
    history: History
    shelf: ModelShelf
    _decisions: list[dict[str, Any]] = field(default_factory=list)
    _waiting: list[Replacement] = field(default_factory=list)
    _results: list[RetrainResult] = field(default_factory=list)
    _judged: set[tuple[str, int]] = field(default_factory=set)

    def take_down(self, decisions: Sequence[dict[str, Any]]) -> None:
        """Takes down the decisions of a cycle, rows as `ops/promotions` has them."""
        self._decisions.extend(decisions)
        found = find_replacements(self._decisions, self.spec.levels)
        self._waiting = [each for each in found if (each.segment, each.version) not in self._judged]

    def judge(self, reign: Reign, moment: Moment) -> None:
        """Judges every promotion that is due, each once."""
        policy, now = self.spec.retrain.payback, moment.now
        ripe = [found for found in self._waiting if now - found.promoted_at_utc >= policy.window]
        if not ripe:
            return
        rows = self._labelled(min(found.promoted_at_utc for found in ripe), moment)
        places = find_rows(rows, self.spec.as_of, self.spec.levels, ripe)
        for found in ripe:
            own = places.get(found, np.empty(0, dtype=np.int64))
            if is_due(policy, found, len(own), now):
                self._results.append(self._judge(reign, found, rows.take(pa.array(own))))
                self._judged.add((found.segment, found.version))
        self._waiting = [found for found in self._waiting if (found.segment, found.version) not in self._judged]

    def payments(self, book: LedgerBook) -> Mapping[str, PaymentRecord]:
        """How retrains of each segment have paid: judged promotions, and retrains that left the champion as it was."""
        instants = {
            (entry.cause.segment, entry.at_utc)
            for entry in book.entries
            if entry.state == "kept_champion" and entry.cause.trigger != BY_HAND
        }
        kept = [RetrainResult(segment, at, paid=False) for segment, at in instants]
        return evaluate_payments(self.spec.retrain.payback, [*self._results, *kept])

    def _labelled(self, since: datetime, moment: Moment) -> pa.Table:
        """The arrived rows from then on whose labels are known."""
        place = self.history.between((since, moment.closed_utc), moment)
        rows = self.history.rows.slice(place.start, place.stop - place.start)
        return rows.filter(pa.array(np.isfinite(self.history.known_labels(place, moment.now))))

    def _judge(self, reign: Reign, found: Replacement, rows: pa.Table) -> RetrainResult:
        spec, frame = self.spec, rows.to_pandas()
        promoted = reign.models[found.segment, found.version]
        replaced = reign.models[found.replaced_segment, found.replaced_version]
        evaluation = replaced.trained.evaluation
        value, dummy = evaluation.scores.get(spec.metric), evaluation.dummy.get(spec.metric)
        moments = rows.column(spec.as_of).cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
        gain = evaluate_gain(
            spec.retrain.payback,
            spec.metric,
            frame[LABEL_COLUMN].to_numpy(dtype=np.float64),
            self._score(promoted, frame),
            self._score(replaced, frame),
            moments // _MICROSECONDS_A_DAY,
            math.nan if value is None or dummy is None else value - dummy,
            spec.validation.seed,
        )
        paid = {"paid": True, "did_not_pay": False}.get(gain.verdict)
        return RetrainResult(found.segment, found.promoted_at_utc, paid)

    def _score(self, known: KnownModel, frame: pd.DataFrame) -> np.ndarray:
        if not len(frame):
            return np.empty(0)
        trained = known.trained
        model = self.shelf.load(known.artefact_sha256)
        return predict_scores(model, frame, trained.numeric, trained.categorical, self.spec.task)
