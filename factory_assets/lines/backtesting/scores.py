"""Scores of a replay: each day by who serves then, again over the drift window when a new champion comes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

import numpy as np

from factory_assets.core.serving.fleet_scoring import ServingModel, score_fleet
from factory_assets.lines.backtesting.history import History, to_micros
from factory_assets.lines.backtesting.reigns import ModelShelf, Reign
from factory_assets.lines.serving import serving_model
from factory_assets.storage.metering import own_cpu_seconds

_UNSCORED = -1
_MOST_WEEKS = 8


# Which model serves each segment: all that scores depend on, beside the rows.
_Serving = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ScoredDays:
    """Scores of a span of days, and the place of each row's model in `models`."""

    scores: np.ndarray
    servers: np.ndarray
    models: tuple[ServingModel, ...]
    cpu_seconds: float


@dataclass
class Scorer:
    """Scores days by the models that serve; what two policies score alike is scored once, and counts for both.

    A day that is asked for alone is scored together with the rest of its week, which the same models mostly score as well,
    and with twice as many weeks each time that they still serve; the CPU time is parted by rows.
    """

    history: History
    shelf: ModelShelf
    _known: dict[tuple[_Serving, date, date], ScoredDays] = field(default_factory=dict)
    _weeks: dict[_Serving, int] = field(default_factory=dict)

    def score(self, reign: Reign, first: date, last: date) -> ScoredDays:
        """Scores the rows of the local days first..last by who reigns."""
        champions = reign.standing.serving
        key = tuple(sorted((segment, champion.artefact_sha256) for segment, champion in champions.items()))
        if (key, first, last) not in self._known:
            serving = {segment: serving_model(champion) for segment, champion in champions.items()}
            together = self._days_ahead(key, first) if first == last else [last]
            scored = self._score(serving, first, together[-1])
            parts = [(first, last)] if first < last else [(day, day) for day in together]
            for part in parts:
                self._known[key, *part] = self._part(scored, first, *part)
        return self._known[key, first, last]

    def _days_ahead(self, key: _Serving, day: date) -> list[date]:
        weeks = self._weeks.get(key, 1)
        self._weeks[key] = min(2 * weeks, _MOST_WEEKS)
        return [day + timedelta(days=place) for place in range(7 * weeks - day.toordinal() % 7)]

    def _score(self, serving: Mapping[str, ServingModel], first: date, last: date) -> ScoredDays:
        spec, place = self.history.spec, self.history.of_days(first, last)
        rows = self.history.rows.slice(place.start, place.stop - place.start)
        before = own_cpu_seconds()
        scored = score_fleet(rows, spec.levels, serving, lambda model: self.shelf.load(model.sha256), spec.task)
        spent = own_cpu_seconds() - before
        return ScoredDays(scored.scores, scored.servers, scored.models, spent)

    def _part(self, scored: ScoredDays, scored_from: date, first: date, last: date) -> ScoredDays:
        start = self.history.of_days(scored_from, scored_from).start
        place = self.history.of_days(first, last)
        mine = slice(place.start - start, place.stop - start)
        share = (place.stop - place.start) / max(len(scored.scores), 1)
        return replace(
            scored,
            scores=scored.scores[mine],
            servers=scored.servers[mine],
            cpu_seconds=scored.cpu_seconds * share,
        )


@dataclass
class ReplayedScores:
    """The predictions of one policy, a place for each row of the history.

    `first` are the scores that each row was given first, nan where nothing served; `scores` the newest, `versions` and
    `segments` those of the model behind them (0 and an index into `names`), `learnt_until` the end of its training rows.
    """

    first: np.ndarray
    scores: np.ndarray
    versions: np.ndarray
    segments: np.ndarray
    learnt_until: np.ndarray
    names: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, history: History) -> "ReplayedScores":
        """No row is scored yet."""
        count = len(history.as_of)
        nothing, zeros = np.full(count, np.nan), np.zeros(count, dtype=np.int64)
        return cls(nothing, nothing.copy(), zeros, np.full(count, _UNSCORED), zeros.copy())

    def write(self, place: slice, scored: ScoredDays, reign: Reign, *, first: bool) -> None:
        """Replaces the scores of rows; `first` keeps them as the first ones, too."""
        champions = [reign.standing.serving[model.segment] for model in scored.models]
        self.scores[place] = scored.scores
        self.versions[place] = _of_each([champion.version for champion in champions], scored.servers)
        self.segments[place] = _of_each([self._number(champion.segment) for champion in champions], scored.servers)
        cuts = [to_micros(champion.trained_until_utc) for champion in champions]
        self.learnt_until[place] = _of_each(cuts, scored.servers)
        if first:
            self.first[place] = scored.scores

    def of_model(self, place: slice, segment: str, version: int, as_of: np.ndarray) -> np.ndarray:
        """Which of these rows this version of a segment's model scored, without having learnt from them."""
        mine = (self.segments[place] == self._number(segment)) & (self.versions[place] == version)
        mine &= np.isfinite(self.scores[place])
        return np.asarray(mine & (as_of[place] > self.learnt_until[place]))

    def segment_names(self, place: slice) -> np.ndarray:
        """The segment of the model behind each score, empty where there is none."""
        names: np.ndarray = np.array([*self.names, ""], dtype=object)[self.segments[place]]
        return names

    def _number(self, segment: str) -> int:
        if segment not in self.names:
            self.names.append(segment)
        return self.names.index(segment)


def _of_each(values: list[int], servers: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.array([*values, _UNSCORED], dtype=np.int64)[servers]
    return found
