"""Do features and predictions look as they did at training?"""

from collections.abc import Mapping
from datetime import datetime, time

from factory_assets.contracts.model_line import CheckKind, ModelLineSpec
from factory_assets.contracts.reports import DriftReport
from factory_assets.core.drift.verdicts import evaluate_drift
from factory_assets.core.plots import plot_drift
from factory_assets.lines.judging.judgement import NEVER, Judgement, newest_feature_row
from factory_assets.lines.stores import LineStores
from factory_assets.storage.delta import PinnedTable
from factory_assets.storage.drift_references import PREDICTION
from factory_assets.storage.drift_windows import Serving, Window, compare_window

_DRIFT_CHECKS: tuple[CheckKind, ...] = ("feature_drift", "prediction_drift")
_MOST_NAMED_SEGMENTS = 1000


def judge_feature_drift(stores: LineStores, now: datetime, run_id: str) -> Judgement:
    """The feature rows of the newest whole days against each champion's training rows."""
    table = stores.lake.find(f"features/{stores.spec.feature_set}")
    named = table.columns if table else []
    left_out = {*stores.spec.row_key, PREDICTION, *stores.spec.drift.ignore}
    features = {name: name for name in named if name not in left_out}
    return _judge(stores, "feature_drift", now, table, features)


def judge_prediction_drift(stores: LineStores, now: datetime, run_id: str) -> Judgement:
    """The scores of the newest whole days against those on each champion's holdout."""
    return _judge(stores, "prediction_drift", now, stores.lake.find(stores.predictions.name), {PREDICTION: "score"})


def drift_window(spec: ModelLineSpec, now: datetime) -> tuple[datetime, datetime]:
    """The newest whole days (UTC): a window, and so a test of the month's promise, for each day and not each look."""
    end = datetime.combine(now.date(), time(), now.tzinfo)
    return end - spec.drift.window, end


def sharing_checks(spec: ModelLineSpec) -> int:
    """How many checks share the promise of false alarms: those whose failure starts a retrain, this one at least."""
    return max(1, len(set(_DRIFT_CHECKS) & set(spec.retrain.named_triggers)))


def _judge(
    stores: LineStores, check: CheckKind, now: datetime, table: PinnedTable | None, features: Mapping[str, str]
) -> Judgement:
    spec = stores.spec
    span = drift_window(spec, now)
    champion = stores.versions.champion(spec.name)
    serving = [Serving(champion.segment, champion.segment, champion.version)] if champion else []
    comparisons = []
    if table is not None and features:
        window = Window.of_table(table, features, spec.as_of, span)
        comparisons = compare_window(stores.lake, spec.name, window, serving)
    versions = {entry.segment: entry.version for entry in serving}
    history = stores.drift_results.count_exceeded(spec.name, check, span[1], spec.drift.hysteresis.of - 1, versions)
    report, judged = evaluate_drift(comparisons, spec.drift, history, sharing_checks(spec))
    if comparisons:
        stores.drift_results.record(spec.name, check, span, versions, report, judged)
    return Judgement(
        check=check,
        passed=not report.drifted,
        summary=report.reason,
        champion_version=champion.version if champion else 0,
        data_as_of_utc=newest_feature_row(stores) or NEVER,
        picture=plot_drift(report),
        numbers=drift_numbers(report),
        failing_segments=report.failing_segments[:_MOST_NAMED_SEGMENTS],
    )


def drift_numbers(report: DriftReport) -> dict[str, object]:
    """What is kept of a report beside its picture, the same keys for one segment and for a fleet."""
    worst, features = next(iter(report.segments), None), report.features
    return {
        "worst_effect": features[0].effect if features else None,
        "worst_measure": features[0].measure if features else None,
        "worst_feature": features[0].feature if features else None,
        "threshold": features[0].threshold if features else None,
        "largest_effect": max((feature.effect for feature in features), default=None),
        "worst_segment": worst.segment if worst else None,
        "drifted_features": list(report.drifted_features),
        "drifted_segments": len(report.failing_segments),
        "judged_segments": sum(segment.judged for segment in report.segments),
        "reference_rows": worst.reference_rows if worst else 0,
        "current_rows": worst.current_rows if worst else 0,
        "windows_exceeded": worst.windows_exceeded if worst else 0,
        "judged": report.judged,
    }
