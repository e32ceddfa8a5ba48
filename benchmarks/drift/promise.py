"""Whether the month's promise of false alarms is held on unchanged data, and real shifts are found all the same.

The same p-values are also judged by the rules that people use: any feature at p < 0.05, PSI above 0.2, Benjamini and
Hochberg by day, and LORD++ (Ramdas et al. 2017) over the stream of all tests.
"""

import tempfile
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pandas as pd
from rich.console import Console
from scipy import stats

from benchmarks.drift.world import LINE, START, keep_references, make_rows, open_window, write_rows
from benchmarks.figures import Figure, at_most
from factory_assets.contracts.drift_policy import DriftSpec
from factory_assets.core.drift.verdicts import FeatureTable, evaluate_drift
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.tables.drift_windows import compare_window

MODELS, FEATURES, DAYS, ROWS_A_DAY = 1000, 10, 60, 30
_SHIFTED, _SHIFT, _FROM_DAY, _WINDOW = 20, 0.5, 30, 7
_POLICIES = {
    "psi (default)": DriftSpec(false_alarms_per_month=5),
    "ks": DriftSpec(false_alarms_per_month=5, numeric={"measure": "ks", "threshold": 0.15}),
    "wasserstein": DriftSpec(false_alarms_per_month=5, numeric={"measure": "wasserstein", "threshold": 0.35}),
}


class Count:
    """Retrains that one rule asks for: of models with unchanged data, and the day on which each shifted one was found.

    A model that alarms day after day asks once a window, which is the shortest cooldown that lets it see new rows.
    """

    def __init__(self) -> None:
        self.false = 0
        self.asked: dict[str, int] = {}
        self.found: dict[str, int] = {}

    def add(self, day: int, alarmed: Sequence[str], shifted: frozenset[str]) -> None:
        """Takes in one day's alarms."""
        for segment in alarmed:
            if segment in shifted and day >= _FROM_DAY:
                self.found.setdefault(segment, day)
            elif day - self.asked.get(segment, -_WINDOW) >= _WINDOW:
                self.false += 1
                self.asked[segment] = day

    def found_within(self, windows: int) -> int:
        """How many shifted models were found so soon."""
        return sum(day - _FROM_DAY <= windows * _WINDOW for day in self.found.values())


class Lord:
    """LORD++ at level 0.05: the wealth that early rejections earn pays for later tests."""

    def __init__(self, level: float = 0.05) -> None:
        self.level, self.tests = level, 0
        self.rejections: list[int] = []
        places = np.arange(1, 200_001)
        gamma = np.log(np.maximum(places, 2)) / (places * np.exp(np.sqrt(np.log(places))))
        self.gamma = gamma / gamma.sum()

    def reject(self, p_value: float) -> bool:
        """The next test of the stream."""
        self.tests += 1
        start = self.level / 2
        allowed = self.gamma[self.tests - 1] * start
        for place, rejection in enumerate(self.rejections):
            allowed += (self.level - start if place == 0 else self.level) * self.gamma[self.tests - rejection - 1]
        if p_value > allowed:
            return False
        self.rejections.append(self.tests)
        return True


def measure_promise(console: Console, rounds: int) -> list[Figure]:
    """Sixty days of a thousand models; then the same with a shift of half a deviation in one feature of twenty."""
    how = f"{MODELS} models x {FEATURES} features x {DAYS} days, {ROWS_A_DAY} rows a day, windows of {_WINDOW} days"
    unchanged, moved = _play(console, 0), _play(console, _SHIFTED)
    figures = []
    for rule, count in unchanged.items():
        name, monthly = f"{rule}: false retrains a month on unchanged data", count.false * 30 / DAYS
        plain = Figure(name, monthly, "retrains", how, is_detail=True)
        figures.append(at_most(name, monthly, "retrains", 5, how) if rule in _POLICIES else plain)
    for rule, count in moved.items():
        found, name = count.found_within(3), f"{rule}: of {_SHIFTED} shifts by 0.5 sd found within 3 windows"
        aimed = Figure(name, found, "models", how, "at least 19 models", found >= 19)
        figures.append(aimed if rule in _POLICIES else Figure(name, found, "models", how, is_detail=True))
        days = [day - _FROM_DAY + 1 for day in count.found.values()] or [DAYS]
        figures.append(Figure(f"{rule}: days to find one, median", float(np.median(days)), "d", how, is_detail=True))
        beside = count.false * 30 / DAYS
        figures.append(Figure(f"{rule}: false retrains a month beside the shifts", beside, "retrains", how, is_detail=True))
    return figures


def _play(console: Console, shifted: int) -> dict[str, Count]:
    random = np.random.default_rng(1 + shifted)
    counts: dict[str, Count] = {}
    lord = Lord()
    with tempfile.TemporaryDirectory() as name:
        lake = Lake(name)
        serving = keep_references(lake, make_rows(random, MODELS, FEATURES, range(50), ROWS_A_DAY))
        moved = frozenset(entry.segment for entry in serving[:shifted])
        past = make_rows(random, MODELS, FEATURES, range(100 - _WINDOW, 100), ROWS_A_DAY)
        recent = past
        for day in range(DAYS):
            moving = shifted if day >= _FROM_DAY else 0
            rows = make_rows(random, MODELS, FEATURES, range(100 + day, 101 + day), ROWS_A_DAY, moving, _SHIFT)
            recent = _slide(recent, rows)
            write_rows(lake, "features/current", recent)
            end = START + timedelta(days=101 + day)
            window = open_window(lake, "features/current", FEATURES, end - timedelta(days=_WINDOW), end)
            comparisons = compare_window(lake, LINE, window, serving)
            for policy, spec in _POLICIES.items():
                report, table = evaluate_drift(comparisons, spec)
                counts.setdefault(policy, Count()).add(day, report.failing_segments, moved)
                for rule, alarmed in _other_rules(policy, table, lord).items():
                    counts.setdefault(rule, Count()).add(day, alarmed, moved)
            if day % 10 == 9:
                so_far = ", ".join(f"{rule} {c.false}+{len(c.found)}" for rule, c in counts.items())
                console.print(f"day {day + 1}: {so_far}")
    return counts


def _slide(recent: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the newest window."""
    joined = pd.concat([recent, rows], ignore_index=True)
    return joined[joined["day"] > joined["day"].max() - _WINDOW]


def _other_rules(policy: str, table: FeatureTable, lord: Lord) -> dict[str, list[str]]:
    """Which models each of the usual rules would retrain today, on the same p-values and effects."""
    segments = table.segments.astype(str)
    if policy == "psi (default)":
        return {"PSI > 0.2": sorted(set(segments[table.effects > 0.2]))}
    if policy != "ks":
        return {}
    names, group = np.unique(segments, return_inverse=True)
    least = np.ones(len(names))
    np.minimum.at(least, group, table.p_adjusted)
    adjusted = stats.false_discovery_control(least)
    return {
        "KS p < 0.05 in any feature": sorted(set(segments[table.p_values < 0.05])),
        "KS, Benjamini-Hochberg by day at 0.05": names[adjusted <= 0.05].tolist(),
        "KS, LORD++ at 0.05 over all days": [name for name, p in zip(names, least, strict=True) if lord.reject(float(p))],
    }
