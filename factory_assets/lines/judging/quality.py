"""Do the models that serve do as well as on their own holdouts, and are their labels what they were?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from factory_assets.contracts.model_line import CheckKind
from factory_assets.contracts.reports import FleetQualityReport, QualityReport, ScoreProfile
from factory_assets.contracts.segments import ALL
from factory_assets.core.drift.verdicts import evaluate_drift
from factory_assets.core.monitoring.fleet_quality import ServedModel, compare_labels, evaluate_fleet_quality, explain_drift
from factory_assets.core.monitoring.quality import ScoredRows
from factory_assets.core.pictures.plots import plot_drift
from factory_assets.core.pictures.quality_plots import plot_quality
from factory_assets.lines.judging.drift import (
    MOST_NAMED_SEGMENTS,
    draw_over_days,
    drift_numbers,
    level_of_a_day,
    say_compared,
    sharing_checks,
    whole_days,
)
from factory_assets.lines.judging.judgement import NEVER, Judgement, newest_feature_row
from factory_assets.lines.judging.serving import read_left_over
from factory_assets.lines.stores import LineStores
from factory_assets.storage.tables.drift_references import LABEL

_NOTHING = ScoreProfile((), (), (), (), ())


@dataclass(frozen=True)
class _Served:
    """The models that are judged, the versions of all that serve, and what has to be said of how they were compared."""

    models: Sequence[ServedModel]
    versions: Mapping[str, int]
    said: str

    @property
    def line_version(self) -> int:
        """The version that speaks for the line, 0 for none."""
        return self.versions.get(ALL, max(self.versions.values(), default=0))


def judge_quality(stores: LineStores, now: datetime, run_id: str) -> Judgement:
    """The metric on rows whose labels are known, against each champion's holdout and what the features explain."""
    return _judge_quality(stores, "quality", now, labelled=True)


def judge_estimated_quality(stores: LineStores, now: datetime, run_id: str) -> Judgement:
    """The metric that each champion's scores promise, before labels are known."""
    return _judge_quality(stores, "estimated_quality", now, labelled=False)


def judge_label_drift(stores: LineStores, now: datetime, run_id: str) -> Judgement:
    """The known labels against those of training; a change that the features explain, a season's, passes."""
    spec = stores.spec
    served, span = _read_served(stores, spec.drift.window, now), whole_days(spec.drift.window, now)
    comparisons, windows = compare_labels(served.models), spec.drift.hysteresis.of - 1
    history = stores.drift_results.count_exceeded(spec.name, "label_drift", span[1], windows, served.versions)
    report, table = evaluate_drift(comparisons, spec.drift, history, sharing_checks(spec))
    if comparisons:
        stores.drift_results.record(spec.name, "label_drift", span, served.versions, report, table)
    explained = explain_drift(report, served.models, spec.task, level_of_a_day(spec))
    return Judgement(
        check="label_drift",
        passed=not explained.failing_segments,
        summary=report.reason + explained.reason + served.said,
        champion_version=served.line_version,
        data_as_of_utc=newest_feature_row(stores) or NEVER,
        picture=plot_drift(report),
        numbers={
            **drift_numbers(report),
            "unexplained_gap": explained.gap,
            "unexplained_p_value": explained.p_value,
        },
        failing_segments=explained.failing_segments[:MOST_NAMED_SEGMENTS],
        over_days=draw_over_days(stores, "label_drift", span[1], report),
    )


def _judge_quality(stores: LineStores, check: CheckKind, now: datetime, *, labelled: bool) -> Judgement:
    spec = stores.spec
    served = _read_served(stores, spec.quality.window, now)
    fleet = None
    report = QualityReport(
        False, False, spec.metric, 0, float("nan"), None, None, None, None, 0.0, 0.0, "Not judged: no model serves yet."
    )
    if served.models:
        fleet = evaluate_fleet_quality(
            spec.metric,
            served.models,
            max_loss=spec.quality.limit_of(check),
            min_rows=spec.quality.min_rows,
            level=level_of_a_day(spec),
            labelled=labelled,
            seed=spec.validation.seed,
        )
    elif served.versions:
        report = report.because("Not judged: of no model that serves is a holdout kept.")
    fleet = fleet or FleetQualityReport(((ALL, report),), report.reason)
    report = fleet.worst
    return Judgement(
        check=check,
        passed=not report.decayed,
        summary=fleet.reason + served.said,
        champion_version=served.line_version,
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
            **({"loss_of_segments": {s: of.loss for s, of in fleet.segments if of.decayed}} if spec.segment_by else {}),
        },
        failing_segments=fleet.failing_segments[:MOST_NAMED_SEGMENTS],
    )


def _read_served(stores: LineStores, window: timedelta, now: datetime) -> _Served:
    """The champions that serve, each with the rows of a window that it scored; of a line of one model its champion."""
    spec = stores.spec
    standing = stores.versions.standing(spec.name)
    champions = standing.serving if spec.segment_by else standing.champions
    versions = {segment: champion.version for segment, champion in sorted(champions.items())}
    recorded = stores.versions.of_segments(spec.name, versions)
    profiles = stores.references.read_profiles(spec.name, versions)
    labels = stores.references.read_feature(spec.name, LABEL, versions)
    left_over = read_left_over(stores, versions)
    rows = _split_rows(stores, versions, window, now)
    models = []
    for segment, version in versions.items():
        if segment in left_over.lacking:
            continue
        own = left_over.summaries.get(segment)
        evaluation = own.evaluation if own else recorded[segment].evaluation
        profile = own.profile if own else profiles.get(segment, _NOTHING)
        models.append(
            ServedModel(segment, version, evaluation, profile, own.labels if own else labels.get(segment), rows[segment])
        )
    scored = {parent: len(rows[parent].scores) for parent in sorted(left_over.lacking) if len(rows[parent].scores)}
    return _Served(models, versions, say_compared(left_over, scored))


def _split_rows(stores: LineStores, versions: Mapping[str, int], window: timedelta, now: datetime) -> dict[str, ScoredRows]:
    found = stores.scored_labels.read(versions, whole_days(window, now), now)
    scores, labels, days = (found[name].to_numpy() for name in ("score", "label", "day"))
    places = found["place"].to_numpy()
    order = np.argsort(places, kind="stable")
    ends = np.searchsorted(places[order], np.arange(len(versions) + 1))
    parts = {segment: order[ends[place] : ends[place + 1]] for place, segment in enumerate(versions)}
    labels = labels.astype(np.float64)
    return {segment: ScoredRows(scores[mine], labels[mine], days[mine]) for segment, mine in parts.items()}
