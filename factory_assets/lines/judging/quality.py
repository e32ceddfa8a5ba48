"""Does the serving model still do as well as on its own holdout, and are its labels what they were?"""

from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from factory_assets.contracts.model_line import CheckKind
from factory_assets.contracts.model_versions import ModelVersion
from factory_assets.contracts.reports import QualityReport, ScoreProfile
from factory_assets.core.drift.frames import compare_frame
from factory_assets.core.drift.verdicts import evaluate_drift
from factory_assets.core.monitoring.quality import ScoredRows, evaluate_quality, explain_labels
from factory_assets.core.pictures.plots import plot_drift
from factory_assets.core.pictures.quality_plots import plot_quality
from factory_assets.core.segments import ALL
from factory_assets.lines.judging.drift import drift_numbers, level_of_a_day, sharing_checks, whole_days
from factory_assets.lines.judging.judgement import NEVER, Judgement, newest_feature_row
from factory_assets.lines.stores import LineStores
from factory_assets.storage.tables.drift_references import LABEL

_NOTHING = ScoreProfile((), (), (), (), ())


def judge_quality(stores: LineStores, now: datetime, run_id: str) -> Judgement:
    """The metric on rows whose labels are known, against the champion's holdout and what the features explain."""
    return _judge_quality(stores, "quality", now, labelled=True)


def judge_estimated_quality(stores: LineStores, now: datetime, run_id: str) -> Judgement:
    """The metric that the champion's scores promise, before labels are known."""
    return _judge_quality(stores, "estimated_quality", now, labelled=False)


def judge_label_drift(stores: LineStores, now: datetime, run_id: str) -> Judgement:
    """The known labels against those of training; a change that the features explain, a season's, passes."""
    spec = stores.spec
    champion = stores.versions.champion(spec.name)
    rows, profile = _read(stores, champion, spec.drift.window, now)
    kept = stores.references.read(spec.name, ALL, champion.version) if champion else ()
    references = {ALL: [reference for reference in kept if reference.feature == LABEL]}
    known = pd.DataFrame({LABEL: rows.labels[np.isfinite(rows.labels)]})
    comparisons = compare_frame(references, known) if references[ALL] else []
    span = whole_days(spec.drift.window, now)
    versions = {ALL: champion.version if champion else 0}
    history = stores.drift_results.count_exceeded(spec.name, "label_drift", span[1], spec.drift.hysteresis.of - 1, versions)
    report, table = evaluate_drift(comparisons, spec.drift, history, sharing_checks(spec))
    gap, p_value = explain_labels(profile, rows, spec.task)
    unexplained = p_value <= level_of_a_day(spec)
    if comparisons:
        stores.drift_results.record(spec.name, "label_drift", span, versions, report, table)
    explanation = ""
    if report.drifted:
        explanation = f" Beyond what the features explain by {gap:+.3f} (p = {p_value:.1g})" + (
            "." if unexplained else ", which is noise: the labels changed with the features, and the model knows that."
        )
    return Judgement(
        check="label_drift",
        passed=not (report.drifted and unexplained),
        summary=report.reason + explanation,
        champion_version=champion.version if champion else 0,
        data_as_of_utc=newest_feature_row(stores) or NEVER,
        picture=plot_drift(report),
        numbers={**drift_numbers(report), "unexplained_gap": gap, "unexplained_p_value": p_value},
    )


def _judge_quality(stores: LineStores, check: CheckKind, now: datetime, *, labelled: bool) -> Judgement:
    spec = stores.spec
    champion = stores.versions.champion(spec.name)
    report = QualityReport(
        False, False, spec.metric, 0, float("nan"), None, None, None, None, 0.0, 0.0, "Not judged: no model serves yet."
    )
    if champion is not None:
        rows, profile = _read(stores, champion, spec.quality.window, now)
        report = evaluate_quality(
            spec.metric,
            champion.evaluation,
            profile,
            rows,
            max_loss=spec.quality.limit_of(check),
            min_rows=spec.quality.min_rows,
            level=level_of_a_day(stores.spec),
            labelled=labelled,
            seed=spec.validation.seed,
        )
    return Judgement(
        check=check,
        passed=not report.decayed,
        summary=report.reason,
        champion_version=champion.version if champion else 0,
        data_as_of_utc=newest_feature_row(stores) or NEVER,
        picture=plot_quality(report, spec.quality.limit_of(check)),
        numbers={
            "metric": report.metric,
            "rows": report.rows,
            "on_holdout": report.reference,
            "realised": report.realised,
            "realised_error": report.realised_error,
            "expected": report.expected,
            "expected_error": report.expected_error,
            "loss": report.loss,
            "unexplained": report.unexplained,
            "judged": report.judged,
        },
    )


def _read(
    stores: LineStores, champion: ModelVersion | None, window: timedelta, now: datetime
) -> tuple[ScoredRows, ScoreProfile]:
    if champion is None:
        nothing = np.empty(0)
        return ScoredRows(nothing, nothing, nothing.astype(np.int64)), _NOTHING
    found = stores.scored_labels.read(champion.version, whole_days(window, now), now)
    columns = (found[name].to_numpy() for name in ("score", "label", "day"))
    scores, labels, days = columns
    profile = stores.references.read_profile(stores.spec.name, champion.segment, champion.version)
    return ScoredRows(scores, labels.astype(np.float64), days), profile or _NOTHING
