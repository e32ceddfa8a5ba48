"""What alarms were worth: how many a month, which of them preceded a real loss, and which losses they preceded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from benchmarks.monitoring.models import Model
from benchmarks.monitoring.truth import SPAN_DAYS, Truth

# An alarm is over after a week without a failure; one that stays asks again after the demo's cooldown; a loss is preceded by
# what comes at most four weeks before it, and found in time by the end of its first week.
QUIET, COOLDOWN, AHEAD, IN_TIME = 7, 21, 28, 7
_DRAWS = 1000


@dataclass
class Watch:
    """One champion's service, looked at every day: when each rule failed, and what the weeks that followed really were."""

    line: str
    champion: Model
    days: range
    truths: list[Truth]
    failed: dict[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Tally:
    """Counts of one rule over one service or many; they add up.

    `alarms` begin on a day that fails after a week without: what fails on the days that follow, or again within a week, is
    the same alarm. `right` are those with a loss within four weeks or there already. `requests` are what a rule asks that
    goes on, once in a cooldown. `found` are losses with an alarm that begins in the four weeks before them or in their
    first week. Looks are `before` a loss when one begins within four weeks or is there, else `calm`.
    """

    months: float = 0.0
    alarms: float = 0.0
    right: float = 0.0
    requests: float = 0.0
    losses: float = 0.0
    found: float = 0.0
    before: float = 0.0
    before_failed: float = 0.0
    calm: float = 0.0
    calm_failed: float = 0.0

    def figures(self) -> dict[str, float]:
        """Of a table, in shares and by the month; nan where nothing was counted.

        `informedness` (Youden's J) is the share of looks before a loss that fail, less that of calm looks: 0 for whatever
        fails always, never or by lot.
        """
        recall, noise = _share(self.before_failed, self.before), _share(self.calm_failed, self.calm)
        return {
            "alarms a month": _share(self.alarms, self.months),
            "retrains asked for a month": _share(self.requests, self.months),
            "precision": 100 * _share(self.right, self.alarms),
            "recall": 100 * _share(self.found, self.losses),
            "looks before a loss that fail": 100 * recall,
            "calm looks that fail": 100 * noise,
            "informedness": 100 * (recall - noise),
        }


def _share(part: float, of: float) -> float:
    return part / of if of else float("nan")


def tally(watch: Watch, rule: str) -> tuple[Tally, list[int]]:
    """The counts of one service, and of each loss found the days from its alarm to the labels of its first fortnight."""
    failed, spans = watch.failed[rule], loss_spans(watch.truths)
    alarms = _apart(failed, lambda day, _, before: day - before > QUIET)

    def precedes(day: int) -> bool:
        return any(start - AHEAD <= day < end for start, end in spans)

    leads = []
    for start, _ in spans:
        ahead = [day for day in alarms if start - AHEAD <= day <= start + IN_TIME]
        leads += [start + SPAN_DAYS - ahead[0]] if ahead else []
    before = [day for day in watch.days if precedes(day)]
    count = Tally(
        months=len(watch.days) / 30,
        alarms=len(alarms),
        right=sum(map(precedes, alarms)),
        requests=len(_apart(failed, lambda day, asked, _: day - asked >= COOLDOWN)),
        losses=len(spans),
        found=len(leads),
        before=len(before),
        before_failed=len(set(before) & set(failed)),
        calm=len(watch.days) - len(before),
        calm_failed=len(set(failed) - set(before)),
    )
    return count, leads


def _apart(days: Sequence[int], is_apart: Callable[[int, int, int], bool]) -> list[int]:
    """The days that count, by each one's distance from the last that counted and from the one before it."""
    kept: list[int] = []
    for place, day in enumerate(days):
        if not kept or is_apart(day, kept[-1], days[place - 1]):
            kept.append(day)
    return kept


def score_rule(watches: Sequence[Watch], rule: str) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Figures of a rule over all services, and their 90% intervals by drawing whole services again."""
    counted = [tally(watch, rule) for watch in watches]
    names = [entry.name for entry in fields(Tally)]
    table = np.array([[getattr(count, name) for name in names] for count, _ in counted])
    found = {name: float(value) for name, value in Tally(*table.sum(axis=0)).figures().items()}
    random = np.random.default_rng(0)
    drawn = [Tally(*table[random.integers(len(table), size=len(table))].sum(axis=0)).figures() for _ in range(_DRAWS)]
    spread = {name: [figures[name] for figures in drawn if np.isfinite(figures[name])] for name in found}
    intervals = {
        name: (float(np.quantile(values, 0.05)), float(np.quantile(values, 0.95))) if values else (np.nan, np.nan)
        for name, values in spread.items()
    }
    leads = [lead for _, own in counted for lead in own]
    found["days ahead of complete labels, median"] = float(np.median(leads)) if leads else float("nan")
    return found, intervals


def loss_spans(truths: Sequence[Truth]) -> list[tuple[int, int]]:
    """The first day of each run of fortnights with a loss, and the day after its last."""
    spans: list[tuple[int, int]] = []
    for truth in truths:
        if truth.is_loss and spans and spans[-1][1] == truth.day:
            spans[-1] = (spans[-1][0], truth.day + SPAN_DAYS)
        elif truth.is_loss:
            spans.append((truth.day, truth.day + SPAN_DAYS))
    return spans
