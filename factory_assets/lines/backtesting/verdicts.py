"""The verdicts of a replay: the same evaluations as `lines/judging`, on what was known at a moment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import get_args

import numpy as np
import pandas as pd

from factory_assets.contracts.model_line import CheckKind, ModelLineSpec
from factory_assets.contracts.reports import DriftReport
from factory_assets.contracts.retraining import ONLY_SEGMENT, FailedCheck
from factory_assets.core.backtesting.moments import Moment
from factory_assets.core.drift.frames import compare_frame
from factory_assets.core.drift.measures import Comparison
from factory_assets.core.drift.verdicts import evaluate_drift
from factory_assets.core.monitoring.freshness import evaluate_freshness, evaluate_unseen_rows
from factory_assets.core.monitoring.quality import ScoredRows, evaluate_quality, explain_labels
from factory_assets.core.retraining.confirmation import Verdict
from factory_assets.core.training.fit import LABEL, PREDICTION
from factory_assets.lines.backtesting.history import History
from factory_assets.lines.backtesting.reigns import KnownModel, Reign
from factory_assets.lines.backtesting.scores import ReplayedScores
from factory_assets.lines.backtesting.windows import FeatureWindows
from factory_assets.lines.judging.drift import MOST_NAMED_SEGMENTS, level_of_a_day, sharing_checks, whole_days
from factory_assets.lines.judging.serving import LeftOver, summarise_left_over

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
        version = versions.get(ONLY_SEGMENT, max(versions.values(), default=0))
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
        return report.fresh, report.reason, (ONLY_SEGMENT,)

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
        spec, champion = self.spec, reign.champion
        if champion is None:
            return True, "", (ONLY_SEGMENT,)
        span = whole_days(spec.drift.window, moment.now)
        rows = self._scored_rows(champion, span, moment)
        kept = [reference for reference in champion.trained.references if reference.feature == LABEL]
        known = pd.DataFrame({LABEL: rows.labels[np.isfinite(rows.labels)]})
        comparisons = compare_frame({ONLY_SEGMENT: kept}, known) if kept else []
        report = self._drift("label_drift", comparisons, reign, span[1])
        if not report.drifted:
            return True, report.reason, (ONLY_SEGMENT,)
        gap, p_value = explain_labels(champion.trained.profile, rows, spec.task)
        return p_value > level_of_a_day(spec), f"{report.reason} Unexplained: {gap:+.3f}.", (ONLY_SEGMENT,)

    def _quality(self, reign: Reign, moment: Moment, *, labelled: bool) -> tuple[bool, str, tuple[str, ...]]:
        spec, champion = self.spec, reign.champion
        if champion is None:
            return True, "", (ONLY_SEGMENT,)
        rows = self._scored_rows(champion, whole_days(spec.quality.window, moment.now), moment)
        limit = spec.quality.limit_of("quality" if labelled else "estimated_quality")

        def evaluate(**draws: int) -> tuple[bool, bool, str]:
            report = evaluate_quality(
                spec.metric,
                champion.trained.evaluation,
                champion.trained.profile,
                rows,
                max_loss=limit,
                min_rows=spec.quality.min_rows,
                level=level_of_a_day(spec),
                labelled=labelled,
                seed=spec.validation.seed,
                **draws,
            )
            unexplained = report.unexplained > limit or not labelled or report.expected is None
            return report.judged and report.loss > limit and unexplained, report.decayed, report.reason

        # A loss within the limit is no decay at any level up to a half, whatever its error: the draws can be left out.
        doubtful, _, reason = evaluate(draws=1)
        if not doubtful:
            return True, reason, (ONLY_SEGMENT,)
        _, decayed, reason = evaluate()
        return not decayed, reason, (ONLY_SEGMENT,)

    def _scored_rows(self, champion: KnownModel, span: tuple[datetime, datetime], moment: Moment) -> ScoredRows:
        """As `ScoredLabels.read`: rows that this version scored and has not learnt from, with what is known of them."""
        place = self.history.between(span, moment)
        mine = self.scores.of_global_model(place, champion.version, self.history.as_of)
        labels = self.history.known_labels(place, moment.now)[mine]
        days = self.history.as_of[place][mine] // _MICROSECONDS_A_DAY
        return ScoredRows(self.scores.scores[place][mine], labels, days)

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
