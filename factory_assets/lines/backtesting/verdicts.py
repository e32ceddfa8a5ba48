"""The verdicts of a replay: the same evaluations as `lines/judging`, on what was known at a moment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import get_args

import pandas as pd

from factory_assets.contracts.model_line import CheckKind, ModelLineSpec
from factory_assets.contracts.reports import DriftReport
from factory_assets.contracts.retraining import FailedCheck
from factory_assets.contracts.segments import ALL
from factory_assets.core.backtesting.moments import Moment
from factory_assets.core.drift.frames import compare_frame
from factory_assets.core.drift.measures import Comparison
from factory_assets.core.drift.verdicts import evaluate_drift
from factory_assets.core.monitoring.fleet_quality import ServedModel, compare_labels, evaluate_fleet_quality, explain_drift
from factory_assets.core.monitoring.freshness import evaluate_freshness, evaluate_segment_ages, evaluate_unseen_rows
from factory_assets.core.monitoring.quality import ScoredRows
from factory_assets.core.retraining.confirmation import Verdict
from factory_assets.core.training.fit import LABEL, PREDICTION
from factory_assets.lines.backtesting.history import History
from factory_assets.lines.backtesting.reigns import Reign
from factory_assets.lines.backtesting.scores import ReplayedScores
from factory_assets.lines.backtesting.windows import FeatureWindows
from factory_assets.lines.judging.drift import MOST_NAMED_SEGMENTS, level_of_a_day, sharing_checks, whole_days
from factory_assets.lines.judging.serving import LeftOver, summarise_left_over
from factory_assets.lines.retrain_situation import TRAFFIC_DAYS

_MICROSECONDS_A_DAY = 86_400_000_000


@dataclass(frozen=True)
class _Exceeded:
    """Of one judged day of one check: by segment, the version judged, and whether it exceeded."""

    window_end: datetime
    segments: Mapping[str, tuple[int, bool]]


@dataclass
class Judge:
    """Judges one policy's line; it remembers which days exceeded, as `ops/drift` does."""

    spec: ModelLineSpec
    history: History
    windows: FeatureWindows
    scores: ReplayedScores
    _past: dict[CheckKind, dict[datetime, _Exceeded]] = field(default_factory=dict)
    _newest_left_over: tuple[int, LeftOver] | None = None

    @property
    def checks(self) -> tuple[CheckKind, ...]:
        """The checks that the policy acts on."""
        return tuple(kind for kind in get_args(CheckKind) if kind in self.spec.retrain.named_triggers)

    def judge(self, check: CheckKind, reign: Reign, moment: Moment) -> Verdict:
        """One verdict at a moment."""
        judges: dict[CheckKind, Callable[[Reign, Moment], tuple[bool, str, tuple[str, ...]]]] = {
            "model_age": self._model_age,
            "feature_drift": self._feature_drift,
            "prediction_drift": self._prediction_drift,
            "label_drift": self._label_drift,
            "quality": lambda reign, moment: self._quality(reign, moment, labelled=True),
            "estimated_quality": lambda reign, moment: self._quality(reign, moment, labelled=False),
        }
        passed, summary, segments = judges[check](reign, moment)
        as_of = self._newest_row(moment)
        if passed:
            return Verdict(as_of, None)
        versions = reign.versions
        version = versions.get(ALL, max(versions.values(), default=0))
        return Verdict(as_of, FailedCheck(check, 0, "", version, as_of, summary, segments, moment.now))

    def _newest_row(self, moment: Moment) -> datetime:
        arrived = self.history.arrived(moment)
        micros = int(self.history.as_of[arrived - 1]) if arrived else 0
        return datetime.fromtimestamp(micros / 1_000_000, UTC)

    def _model_age(self, reign: Reign, moment: Moment) -> tuple[bool, str, tuple[str, ...]]:
        champion = reign.champion
        until = champion.holdout_until_utc if champion else None
        report = evaluate_freshness("model", until, moment.now, self.spec.freshness.model_max_age)
        if until is not None:
            unseen = self.history.count_labels(until, moment.now)
            report = evaluate_unseen_rows(report, unseen, self.spec.freshness.model_max_unseen_rows)
        failing: tuple[str, ...] = () if report.fresh else (ALL,)
        if self.spec.segment_by:
            week = self.history.between((moment.now - timedelta(days=TRAFFIC_DAYS), moment.now), moment)
            used = set(self.scores.segment_names(week).tolist())
            models = reign.serving_models.items()
            ends = {s: model.holdout_until_utc for s, model in models if s in used and s != ALL}
            report, stale = evaluate_segment_ages(report, ends, moment.now, self.spec.freshness.model_max_age)
            failing = (*failing, *stale)[:MOST_NAMED_SEGMENTS]
        return not failing, report.reason, failing

    def _feature_drift(self, reign: Reign, moment: Moment) -> tuple[bool, str, tuple[str, ...]]:
        span = whole_days(self.spec.drift.window, moment.now)
        report = self._drift("feature_drift", self.windows.compare(reign, span, moment), reign, span[1])
        return _said(report)

    def _prediction_drift(self, reign: Reign, moment: Moment) -> tuple[bool, str, tuple[str, ...]]:
        span = whole_days(self.spec.drift.window, moment.now)
        place = self.history.between(span, moment)
        frame = pd.DataFrame({PREDICTION: self.scores.scores[place]})
        left_over = self._left_over(reign)
        references = {
            segment: [r for r in model.trained.references if r.feature == PREDICTION]
            for segment, model in reign.serving_models.items()
            if not left_over.shares(segment)
        }
        references |= {parent: [summary.scores] for parent, summary in left_over.summaries.items()}
        comparisons = compare_frame(references, frame, self.scores.segment_names(place)) if references else []
        return _said(self._drift("prediction_drift", comparisons, reign, span[1]))

    def _left_over(self, reign: Reign) -> LeftOver:
        if self._newest_left_over is None or self._newest_left_over[0] != reign.standing.sequence:
            models = reign.serving_models
            kept = {segment: model.holdout for segment, model in models.items() if model.holdout is not None}
            self._newest_left_over = (reign.standing.sequence, summarise_left_over(self.spec, kept, models))
        return self._newest_left_over[1]

    def _label_drift(self, reign: Reign, moment: Moment) -> tuple[bool, str, tuple[str, ...]]:
        span = whole_days(self.spec.drift.window, moment.now)
        models = self._served_models(reign, span, moment)
        report = self._drift("label_drift", compare_labels(models), reign, span[1])
        explained = explain_drift(report, models, self.spec.task, level_of_a_day(self.spec))
        failing = explained.failing_segments
        return not failing, report.reason + explained.reason, failing[:MOST_NAMED_SEGMENTS]

    def _quality(self, reign: Reign, moment: Moment, *, labelled: bool) -> tuple[bool, str, tuple[str, ...]]:
        spec = self.spec
        models = self._served_models(reign, whole_days(spec.quality.window, moment.now), moment)
        if not models:
            return True, "", ()
        report = evaluate_fleet_quality(
            spec.metric,
            models,
            max_loss=spec.quality.limit_of("quality" if labelled else "estimated_quality"),
            min_rows=spec.quality.min_rows,
            level=level_of_a_day(spec),
            labelled=labelled,
            seed=spec.validation.seed,
            is_shown=False,
        )
        failing = report.failing_segments
        return not failing, report.reason, failing[:MOST_NAMED_SEGMENTS]

    def _served_models(self, reign: Reign, span: tuple[datetime, datetime], moment: Moment) -> list[ServedModel]:
        """The models that are judged in production, with the rows that `ScoredLabels.read` would give for each."""
        place, left_over = self.history.between(span, moment), self._left_over(reign)
        labels, days = self.history.known_labels(place, moment.now), self.history.as_of[place] // _MICROSECONDS_A_DAY
        known = reign.serving_models
        if not self.spec.segment_by:
            known = {} if reign.champion is None else {ALL: reign.champion}
        models = []
        for segment, model in known.items():
            if segment in left_over.lacking:
                continue
            trained, own = model.trained, left_over.summaries.get(segment)
            kept = next((reference for reference in trained.references if reference.feature == LABEL), None)
            mine = self.scores.of_model(place, segment, model.version, self.history.as_of)
            rows = ScoredRows(self.scores.scores[place][mine], labels[mine], days[mine])
            models.append(
                ServedModel(
                    segment,
                    model.version,
                    own.evaluation if own else trained.evaluation,
                    own.profile if own else trained.profile,
                    own.labels if own else kept,
                    rows,
                )
            )
        return models

    def _drift(self, check: CheckKind, comparisons: list[Comparison], reign: Reign, window_end: datetime) -> DriftReport:
        past = self._past.setdefault(check, {})
        versions = {segment: champion.version for segment, champion in reign.standing.serving.items()}
        counted = _count_exceeded(past, window_end, self.spec.drift.hysteresis.of - 1, versions)
        report, _ = evaluate_drift(comparisons, self.spec.drift, counted, sharing_checks(self.spec))
        if comparisons:
            found = {s.segment: (versions.get(s.segment, 0), s.exceeded) for s in report.segments if s.judged}
            past[window_end] = _Exceeded(window_end, found)
        return report


def _said(report: DriftReport) -> tuple[bool, str, tuple[str, ...]]:
    return not report.drifted, report.reason, report.failing_segments[:MOST_NAMED_SEGMENTS]


def _count_exceeded(
    past: Mapping[datetime, _Exceeded], before: datetime, windows: int, versions: Mapping[str, int]
) -> dict[str, int]:
    """As `DriftResults.count_exceeded`: of each segment's last judged days under its present champion, how many exceeded."""
    if windows < 1:
        return {}
    ends = sorted((end for end in past if end < before), reverse=True)
    counted = {}
    for segment, version in versions.items():
        judged = [past[end].segments[segment][1] for end in ends if past[end].segments.get(segment, (None,))[0] == version]
        if judged:
            counted[segment] = sum(judged[:windows])
    return counted
