"""The verdict on a window: which features, and so which segments, are further from training than noise explains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from factory_assets.contracts.drift_policy import DriftMeasure, DriftSpec
from factory_assets.contracts.reports import DriftReport, FeatureDrift, SegmentDrift
from factory_assets.core.drift.alarms import adjust_within_groups, confirm, false_alarms_per_month
from factory_assets.core.drift.measures import Comparison, effect_sizes
from factory_assets.core.drift.significance import p_values

_SEED = 0


@dataclass(frozen=True)
class FeatureTable:
    """One entry for each feature of each segment, in the order of the comparisons that it was made of."""

    segments: np.ndarray
    features: np.ndarray
    measures: np.ndarray
    effects: np.ndarray
    thresholds: np.ndarray
    p_values: np.ndarray
    p_adjusted: np.ndarray
    exceeded: np.ndarray
    reference_rows: np.ndarray
    current_rows: np.ndarray


def evaluate_drift(
    comparisons: Sequence[Comparison],
    spec: DriftSpec,
    history: Mapping[str, int] | None = None,
    checks: int = 1,
) -> tuple[DriftReport, FeatureTable]:
    """Judges every segment of a window.

    A feature exceeds when its effect is above its threshold and its p-value, adjusted over the segment's features, at
    most `false_discovery_rate`. A segment exceeds when a feature does and its p-value keeps the month's promise of false
    alarms; it drifted when it exceeds in enough windows. A segment with fewer than `min_rows` rows is not judged.

    Args:
        comparisons: counts of reference and current rows.
        spec: the line's policy.
        history: of each segment, in how many of the `hysteresis.of - 1` judged windows before it exceeded.
        checks: how many checks share the promise of false alarms.
    """
    table = evaluate_features(comparisons, spec, checks)
    group, names = pd.factorize(table.segments, sort=True)
    rows = np.zeros(len(names), dtype=np.int64)
    np.maximum.at(rows, group, table.current_rows)
    reference_rows = np.zeros(len(names), dtype=np.int64)
    np.maximum.at(reference_rows, group, table.reference_rows)
    least = np.ones(len(names))
    np.minimum.at(least, group, np.where(table.effects > table.thresholds, table.p_adjusted, 1.0))
    any_feature = np.bincount(group, table.exceeded, minlength=len(names)) > 0
    severity = table.effects / table.thresholds
    worst = np.full(len(names), -1)
    order = np.lexsort((-severity, ~table.exceeded, group))
    worst[group[order][::-1]] = order[::-1]  # the first of each group is written last
    judged = rows >= spec.min_rows
    cost = np.full(len(names), np.inf)
    cost[judged] = false_alarms_per_month(least[judged], checks)
    exceeded = judged & any_feature & (cost <= spec.false_alarms_per_month)
    keys = [str(name) for name in names]
    verdicts = confirm(dict(zip(keys, exceeded.tolist(), strict=True)), history or {}, spec.hysteresis.hits)
    drifted = np.array([verdicts[key][0] for key in keys], dtype=bool)
    worst_severity, worst_feature = severity[worst], table.features[worst]
    shown = np.lexsort((-worst_severity, ~judged, ~exceeded, ~drifted))  # in order of the keys where all is equal
    columns = (judged, exceeded, drifted, reference_rows, rows, least, cost, worst_feature, worst_severity)
    segments = [
        SegmentDrift(
            segment=key,
            judged=judged,
            exceeded=exceeded,
            drifted=drifted,
            reference_rows=before,
            current_rows=now,
            windows_exceeded=verdicts[key][1],
            p_value=p_value,
            false_alarms_per_month=alarms,
            worst_feature=str(feature),
            severity=severity,
        )
        for key, judged, exceeded, drifted, before, now, p_value, alarms, feature, severity in zip(
            [keys[place] for place in shown.tolist()], *(column[shown].tolist() for column in columns), strict=True
        )
    ]
    features = describe_segment(comparisons, table, segments[0], spec) if segments else ()
    reason = _reason(segments, features, spec)
    return DriftReport(bool(drifted.any()), tuple(segments), features, spec.false_alarms_per_month, reason), table


def evaluate_features(comparisons: Sequence[Comparison], spec: DriftSpec, checks: int = 1) -> FeatureTable:
    """Effect and significance of every feature of every segment."""
    segments = max(len({segment for comparison in comparisons for segment in comparison.segments.tolist()}), 1)
    level = spec.false_alarms_per_month / float(false_alarms_per_month(np.ones(segments), checks)[0])
    parts = [_evaluate(comparison, spec, level) for comparison in comparisons]
    joined = [np.concatenate(columns) for columns in zip(*parts, strict=True)] if parts else [np.empty(0)] * 8
    names, features, measures, effects, thresholds, found, before, now = joined
    group, _ = pd.factorize(names)
    adjusted = adjust_within_groups(found, group)
    exceeded = (effects > thresholds) & (adjusted <= spec.false_discovery_rate) & (now >= spec.min_rows)
    return FeatureTable(names, features, measures, effects, thresholds, found, adjusted, exceeded, before, now)


def _evaluate(comparison: Comparison, spec: DriftSpec, level: float) -> tuple[np.ndarray, ...]:
    feature_of, names = pd.factorize(comparison.features)
    kinds = [spec.judged_by(str(name), comparison.is_numeric) for name in names]
    measures = np.array([measure for measure, _ in kinds], dtype=object)[feature_of]
    thresholds = np.array([threshold for _, threshold in kinds], dtype=np.float64)[feature_of]
    effects, found = np.zeros(len(measures)), np.ones(len(measures))
    for measure in sorted({measure for measure, _ in kinds}):
        mine = measures == measure
        chosen = comparison if mine.all() else comparison.take(mine)
        effects[mine] = sizes = effect_sizes(chosen, measure)
        if spec.exchangeable == "rows":
            chosen = chosen.with_independent_rows()
        found[mine] = p_values(chosen, measure, sizes, sizes > thresholds[mine], spec.null, level, _SEED)
    before, now = comparison.reference.sum(axis=1), comparison.current.sum(axis=1)
    return comparison.segments, comparison.features, measures, effects, thresholds, found, before, now


def describe_segment(
    comparisons: Sequence[Comparison], table: FeatureTable, segment: SegmentDrift, spec: DriftSpec
) -> tuple[FeatureDrift, ...]:
    """The features of one segment with the shares behind them, worst first."""
    described = []
    start = 0
    for comparison in comparisons:
        places = np.flatnonzero(comparison.segments == segment.segment)
        own = comparison.take(places)
        for place, row in enumerate((places + start).tolist()):
            before, now, labels = own.shares_of(place)
            measure: DriftMeasure = table.measures[row]
            described.append(
                FeatureDrift(
                    feature=str(table.features[row]),
                    measure=measure,
                    effect=float(table.effects[row]),
                    threshold=float(table.thresholds[row]),
                    p_value=float(table.p_values[row]),
                    p_adjusted=float(table.p_adjusted[row]),
                    drifted=bool(table.exceeded[row]) and segment.drifted,
                    reference_share=before,
                    current_share=now,
                    bin_labels=labels,
                )
            )
        start += len(comparison.features)
    return tuple(sorted(described, key=lambda f: (not f.drifted, -f.severity, f.feature)))


def _reason(segments: Sequence[SegmentDrift], features: Sequence[FeatureDrift], spec: DriftSpec) -> str:
    if not segments:
        return "Not judged: there is no reference to compare with."
    judged = [segment for segment in segments if segment.judged]
    most = max(segment.current_rows for segment in segments)
    if not judged:
        return f"Not judged: {most:,} current rows, and fewer than {spec.min_rows:,} say nothing about drift."
    worst = segments[0]
    where = f" in segment {worst.segment}" if len(segments) > 1 else ""
    rows = f"{worst.current_rows:,} current against {worst.reference_rows:,} reference rows"
    count = sum(segment.drifted for segment in segments)
    fleet = f"{count} of {len(judged)} judged segments drifted. " if len(segments) > 1 else ""
    if len(judged) < len(segments):
        fleet += f"{len(segments) - len(judged)} are not judged, with fewer than {spec.min_rows:,} rows. "
    drifted = [feature for feature in features if feature.drifted]
    waiting = ""
    if worst.exceeded and not drifted:
        waiting = f" Exceeded in {worst.windows_exceeded} of the {spec.hysteresis.hits} windows that it takes."
    if len(features) == 1:  # as predictions and labels are, which are no features
        (column,) = features
        verdict, p_value = ("drifted", f", {_shown_p(column.p_adjusted)}") if drifted else ("did not drift", "")
        return f"{fleet}{column.feature} {verdict}{where}, in {rows}: {_shown_effect(column)}{p_value}.{waiting}"
    if drifted:
        named = ", ".join(f"{f.feature} ({_shown_effect(f)}, {_shown_p(f.p_adjusted)})" for f in drifted[:3])
        more = f" and {len(drifted) - 3} more" if len(drifted) > 3 else ""
        return f"{fleet}{len(drifted)} of {len(features)} features drifted{where}, in {rows}: {named}{more}."
    largest = f"; the largest effect is {_shown_effect(features[0])} of {features[0].feature}" if features else ""
    return f"{fleet}None of {len(features)} features drifted{where}, in {rows}{largest}.{waiting}"


def _shown_effect(feature: FeatureDrift) -> str:
    return f"{feature.measure} {feature.effect:.2f}, limit {feature.threshold:g}"


def _shown_p(p_value: float) -> str:
    return "p < 1e-9" if p_value < 1e-9 else f"p = {p_value:.1g}"
