"""The joint distribution: can a classifier tell the newest rows from those of training, better than their days explain?

Each feature may look as before while what hangs together with what has changed. A classifier that is taught to tell both
sides apart finds that; how well it does on days that it was not taught is the effect, the area under its curve: a half is
no difference. Days resemble their neighbours, so that any few days are told from others a little. How well is known from
the reference itself: spans of it as long as the window are told from the rest of it by the same procedure, and the window
counts as changed only where it stands out of those (a two-sample test by classifier, Lopez-Paz and Oquab 2017, ICLR; with
the reference's own windows as its null).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier

from factory_assets.contracts.drift_policy import JointDriftSpec
from factory_assets.contracts.reports import JointReport
from factory_assets.core.drift.references import MAX_CATEGORIES
from factory_assets.core.models.features import is_numeric, numeric_values

_FOLDS, _WEEK = 4, 7
# More windows cost time and change little; a single one has no spread.
_FEWEST_WINDOWS, _MOST_WINDOWS = 2, 8
_LEAST_ROWS = 50
_TREES = {"max_iter": 25, "learning_rate": 0.2, "max_leaf_nodes": 8, "max_bins": 32, "min_samples_leaf": 20}
_CERTAIN = 1e-3
_SCORE_BINS = 20


@dataclass(frozen=True)
class DatedRows:
    """Rows of one side as numbers: `values` (n, features), nan for missing, and `days` (n,), the day of each."""

    values: np.ndarray
    days: np.ndarray

    def take(self, chosen: np.ndarray) -> "DatedRows":
        """The rows of a mask."""
        return DatedRows(self.values[chosen], self.days[chosen])


def encode_rows(frame: pd.DataFrame, reference: pd.DataFrame, features: Sequence[str]) -> np.ndarray:
    """Numbers as they are, text by its place among the reference's commonest values; shape (n, features)."""
    values = np.empty((len(frame), len(features)))
    for place, name in enumerate(features):
        if is_numeric(reference[name]):
            values[:, place] = numeric_values(frame[name])
            continue
        sizes = reference[name].dropna().astype("str").value_counts()
        known = sorted(sizes.index, key=lambda value: (-sizes[value], value))[:MAX_CATEGORIES]
        codes = pd.Index(known, dtype=object).get_indexer(pd.Index(frame[name].astype("str"), dtype=object))
        values[:, place] = np.where(frame[name].isna(), np.nan, np.where(codes < 0, MAX_CATEGORIES, codes))
    return values


def evaluate_joint(
    reference: DatedRows,
    current: DatedRows,
    features: Sequence[str],
    is_text: Sequence[bool],
    spec: JointDriftSpec,
    *,
    window_days: int,
    gap_days: int,
    level: float,
    seed: int = 0,
) -> JointReport:
    """Judges a window: it exceeds when the area is above `spec.size` and its p-value at most `level`.

    The p-value is that of a prediction: of Student's t, how probable a window so far from those of the reference is, were
    it one of them; on the scale of a shift in standard deviations, and never with less noise than independent rows have.
    It is 1 without a look at the reference's windows where the area is not above the size.

    Args:
        reference: a sample of the training rows.
        current: the same share of the window's rows.
        features: names of the columns of both.
        is_text: of each column, whether its numbers are places of text.
        spec: the line's policy.
        window_days: length of the window.
        gap_days: days between training and the window at the least; so many are left out on either side of the
            reference's own windows as well, a quarter of its span at most.
        level: the chance of a false alarm that this verdict may take.
        seed: of the classifiers.
    """
    rows = len(reference.days), len(current.days)
    columns = np.asarray(is_text, dtype=bool)
    if min(rows) < _LEAST_ROWS or len(np.unique(_parts(current.days, window_days))) < 2:
        reason = f"{rows[1]:,} sampled rows of {len(np.unique(current.days))} days against {rows[0]:,} of training"
        return _not_judged(rows, spec, f"Not judged: {reason} are too few to tell sides apart.")
    windows = _own_windows(reference.days, window_days, gap_days)
    if len(windows) < _FEWEST_WINDOWS:
        span = int(np.ptp(reference.days)) + 1
        return _not_judged(
            rows,
            spec,
            f"Not judged: {span} days of training hold fewer than {_FEWEST_WINDOWS} windows of {window_days} days, so that "
            "how far windows wander by themselves is not known: train on more days, or shorten drift.window.",
        )
    told = _separate(reference, current, columns, spec, window_days, seed)
    auc, own, named, p_value = told.auc, [], [], 1.0
    if auc > spec.size:
        own = [
            _separate(reference.take(rest), reference.take(inside), columns, spec, window_days, seed).auc
            for inside, rest in windows
        ]
        p_value = _p_value(auc, own, rows)
        lost = _losses(told, len(columns), seed).tolist()
        named = sorted(zip(features, lost, strict=True), key=lambda pair: (-pair[1], pair[0]))
    exceeded = auc > spec.size and p_value <= level
    report = JointReport(
        judged=True,
        exceeded=exceeded,
        auc=auc,
        size=spec.size,
        p_value=p_value,
        own_aucs=tuple(own),
        reference_rows=rows[0],
        current_rows=rows[1],
        importance=tuple(named),
        reference_share=_shares(told.scores[0]),
        current_share=_shares(told.scores[1]),
        reason="",
    )
    return report.because(_reason(report))


@dataclass(frozen=True)
class _Told:
    """Both sides told apart: the area, each row's score, and of each part of days its model, rows of both sides and area."""

    auc: float
    scores: tuple[np.ndarray, np.ndarray]
    parts: list[tuple[HistGradientBoostingClassifier, list[np.ndarray], float]]


def _separate(
    reference: DatedRows, current: DatedRows, is_text: np.ndarray, spec: JointDriftSpec, window_days: int, seed: int
) -> _Told:
    """The mean area over parts of days, with each row scored by a classifier that saw none of its part.

    Scores of different classifiers cannot be ranked among each other, so each part has an area of its own.
    """
    values = [side.values for side in (reference, current)]
    if spec.marginals == "removed":
        values = [_ranks(side, is_text) for side in values]
    parts = [_parts(side.days, window_days) for side in (reference, current)]
    scores = (np.full(len(parts[0]), np.nan), np.full(len(parts[1]), np.nan))
    found = []
    for part in np.intersect1d(parts[0], parts[1]):
        held = [of == part for of in parts]
        taught = [rows[~out] for rows, out in zip(values, held, strict=True)]
        if min(len(rows) for rows in taught) == 0:
            continue
        model = _fit(taught[0], taught[1], is_text, seed)
        asked = [rows[out] for rows, out in zip(values, held, strict=True)]
        for kept, out, rows in zip(scores, held, asked, strict=True):
            kept[out] = model.predict_proba(rows)[:, 1]
        found.append((model, asked, _area(scores[0][held[0]], scores[1][held[1]])))
    auc = float(np.average([area for *_, area in found], weights=_weights(found))) if found else 0.5
    return _Told(auc, scores, found)


def _weights(parts: list[tuple[HistGradientBoostingClassifier, list[np.ndarray], float]]) -> list[int]:
    return [len(asked[1]) for _, asked, _ in parts]


def _losses(told: _Told, columns: int, seed: int) -> np.ndarray:
    """What each column carries: the area that is lost when its values are shuffled over both sides."""
    random = np.random.default_rng(seed)
    lost = [
        [area - _area_without(model, asked, place, random) for place in range(columns)] for model, asked, area in told.parts
    ]
    return np.average(lost, axis=0, weights=_weights(told.parts))


def _fit(reference: np.ndarray, current: np.ndarray, is_text: np.ndarray, seed: int) -> HistGradientBoostingClassifier:
    sides = np.r_[np.zeros(len(reference)), np.ones(len(current))]
    weights = np.r_[np.full(len(reference), 1 / len(reference)), np.full(len(current), 1 / len(current))] * len(sides) / 2
    # A column of which every value is missing on the taught days has nothing to be cut at.
    rows = np.concatenate([reference, current])
    rows[:, np.isnan(rows).all(axis=0)] = 0.0
    model = HistGradientBoostingClassifier(
        **_TREES, early_stopping=False, categorical_features=is_text if is_text.any() else None, random_state=seed
    )
    return model.fit(rows, sides, sample_weight=weights)


def _area_without(
    model: HistGradientBoostingClassifier, asked: Sequence[np.ndarray], place: int, random: np.random.Generator
) -> float:
    both = np.concatenate(asked)
    both[:, place] = both[random.permutation(len(both)), place]
    found = model.predict_proba(both)[:, 1]
    return _area(found[: len(asked[0])], found[len(asked[0]) :])


def _area(reference: np.ndarray, current: np.ndarray) -> float:
    """The chance that a row of the window scores above one of the reference (Mann and Whitney)."""
    ranks = stats.rankdata(np.r_[reference, current])[len(reference) :]
    count = len(current)
    return float((ranks.sum() - count * (count + 1) / 2) / (count * len(reference)))


def _parts(days: np.ndarray, window_days: int) -> np.ndarray:
    """Which of four parts each day belongs to: spans in time where each is whole weeks, else days of the week.

    Left out are the same days of the week on both sides: a classifier that saw Mondays of one side alone would tell all
    Mondays by that.
    """
    if len(days) == 0:
        return np.empty(0, dtype=np.int64)
    if window_days < _FOLDS * _WEEK:
        return np.asarray((days % _WEEK) * _FOLDS // _WEEK)
    _, place = np.unique(days, return_inverse=True)
    return np.asarray(place * _FOLDS // (int(place.max()) + 1))


def _own_windows(days: np.ndarray, window_days: int, gap_days: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The reference's own windows, that do not overlap, as masks: the rows inside, and the rest without the gap around."""
    first, end = int(days.min()), int(days.max()) + 1
    gap = min(gap_days, (end - first) // 4)
    count = min((end - first) // window_days, _MOST_WINDOWS)
    found = []
    for start in np.linspace(first, end - window_days, count).round().astype(int) if count > 1 else ():
        inside = (days >= start) & (days < start + window_days)
        rest = (days < start - gap) | (days >= start + window_days + gap)
        if inside.sum() >= _LEAST_ROWS and rest.sum() >= _LEAST_ROWS:
            found.append((inside, rest))
    return found


def _p_value(auc: float, own: Sequence[float], rows: tuple[int, int]) -> float:
    found, others = _as_shift(np.array([auc]))[0], _as_shift(np.array(own))
    # Of a half, the area's own noise over independent rows, and the slope of the shift there.
    independent = np.sqrt((sum(rows) + 1) / (12 * rows[0] * rows[1])) * np.sqrt(2) / stats.norm.pdf(0)
    spread = max(float(others.std(ddof=1)), float(independent))
    distance = (found - max(float(others.mean()), 0.0)) / (spread * np.sqrt(1 + 1 / len(own)))
    return float(stats.t.sf(distance, len(own) - 1))


def _as_shift(areas: np.ndarray) -> np.ndarray:
    """The shift of a normal, in standard deviations, that gives such an area."""
    return np.asarray(np.sqrt(2) * stats.norm.ppf(np.clip(areas, _CERTAIN, 1 - _CERTAIN)))


def _ranks(values: np.ndarray, is_text: np.ndarray) -> np.ndarray:
    """Each number by its rank within its own side, so that only what hangs together is left to tell sides apart."""
    ranked = values.copy()
    for place in np.flatnonzero(~is_text):
        present = ~np.isnan(values[:, place])
        ranked[present, place] = stats.rankdata(values[present, place]) / max(present.sum(), 1)
    return ranked


def _not_judged(rows: tuple[int, int], spec: JointDriftSpec, reason: str) -> JointReport:
    return JointReport(False, False, 0.5, spec.size, 1.0, (), rows[0], rows[1], (), (), (), reason)


def _shares(scores: np.ndarray) -> tuple[float, ...]:
    told = scores[np.isfinite(scores)]
    counts, _ = np.histogram(told, bins=_SCORE_BINS, range=(0, 1))
    return tuple((counts / max(len(told), 1)).tolist())


def _reason(report: JointReport) -> str:
    rows = f"{report.current_rows:,} sampled rows against {report.reference_rows:,} of training"
    told = f"A classifier tells {rows} with an area of {report.auc:.3f} (limit {report.size:g})"
    if not report.own_aucs:
        return f"{told}: no difference that matters."
    usual = f"{min(report.own_aucs):.3f} to {max(report.own_aucs):.3f}"
    leading = ", ".join(f"{name} ({loss:+.3f})" for name, loss in report.importance[:3] if loss > 0)
    by = f", by {leading}" if leading else ""
    if report.exceeded:
        return f"{told}, where training's own windows have {usual} (p = {report.p_value:.1g}){by}."
    return f"{told}, and training's own windows have {usual}: this is one like them (p = {report.p_value:.2g})."
