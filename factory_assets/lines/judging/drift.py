"""Do features and predictions look as they did at training?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pyarrow as pa

from factory_assets.contracts.model_line import CheckKind, ModelLineSpec
from factory_assets.contracts.reports import DriftReport
from factory_assets.contracts.segments import ALL
from factory_assets.core.drift.alarms import DAYS_OF_A_MONTH
from factory_assets.core.drift.frames import compare_frame
from factory_assets.core.drift.measures import Comparison
from factory_assets.core.drift.verdicts import evaluate_drift
from factory_assets.core.pictures.plots import plot_drift
from factory_assets.core.pictures.segment_plots import DAYS, MOST_SEGMENTS, plot_segment_days
from factory_assets.lines.judging.judgement import NEVER, Judgement, newest_feature_row
from factory_assets.lines.judging.serving import LeftOver, list_serving, read_left_over, window_of_features, window_of_scores
from factory_assets.lines.stores import LineStores
from factory_assets.storage.delta.lake import PinnedTable
from factory_assets.storage.tables.drift_references import PREDICTION, Serving
from factory_assets.storage.tables.drift_windows import compare_window

_SHARING: frozenset[CheckKind] = frozenset(
    {"feature_drift", "joint_drift", "prediction_drift", "label_drift", "quality", "estimated_quality"}
)
MOST_NAMED_SEGMENTS = 1000
_MOST_SAID = 3


def judge_feature_drift(stores: LineStores, now: datetime, run_id: str) -> Judgement:
    """The feature rows of the newest whole days against each champion's training rows."""
    spec = stores.spec
    span = whole_days(spec.drift.window, now)
    table = stores.lake.find(f"features/{spec.feature_set}")
    left_out = {*spec.row_key, PREDICTION, *spec.drift.ignore}
    # A line that names its features is not judged by the other columns, of which nothing was kept at training.
    named = (spec.features or table.columns) if table else ()
    features = [name for name in named if name not in left_out]
    window = window_of_features(stores, table, features, span) if table is not None and features else None
    serving = list_serving(stores)
    comparisons = compare_window(stores.lake, spec.name, window, serving) if window is not None else []
    return _judge(stores, "feature_drift", now, span, serving, comparisons)


def judge_prediction_drift(stores: LineStores, now: datetime, run_id: str) -> Judgement:
    """The scores that each champion gave in the newest whole days against those that it gave on its holdout."""
    span = whole_days(stores.spec.drift.window, now)
    table = stores.lake.find(stores.predictions.name)
    serving = list_serving(stores)
    left_over = read_left_over(stores, {entry.segment: entry.version for entry in serving})
    if table is None:
        return _judge(stores, "prediction_drift", now, span, serving, [])
    comparisons, lacking = _compare_scores(stores, table, span, serving, left_over)
    judgement = _judge(stores, "prediction_drift", now, span, serving, comparisons)
    return replace(judgement, summary=judgement.summary + say_compared(left_over, lacking))


def _compare_scores(
    stores: LineStores, table: PinnedTable, span: tuple[datetime, datetime], serving: Sequence[Serving], left_over: LeftOver
) -> tuple[list[Comparison], dict[str, int]]:
    """The comparisons, and how many rows those parents scored that have nothing to be compared with."""
    window = window_of_scores(stores, table, PREDICTION, span)
    alone = [entry for entry in serving if not left_over.shares(entry.segment)]
    comparisons = compare_window(stores.lake, stores.spec.name, window, alone)
    parents = [*left_over.summaries, *left_over.lacking]
    if not parents:
        return comparisons, {}
    sharing = pa.table({"segment": pa.array(parents, pa.string())})
    sql = f"select * from ({window.sql}) semi join sharing using (segment)"
    rows = stores.lake.query(sql, window.parameters, **window.tables, sharing=sharing).to_pandas()
    references = {parent: [summary.scores] for parent, summary in left_over.summaries.items()}
    scored = rows["segment"].value_counts().to_dict()
    lacking = {parent: scored[parent] for parent in sorted(left_over.lacking) if parent in scored}
    return [*comparisons, *compare_frame(references, rows, rows["segment"].to_numpy())], lacking


def whole_days(window: timedelta, now: datetime) -> tuple[datetime, datetime]:
    """The newest whole days (UTC): a window, and so a test of the month's promise, for each day and not each look."""
    end = datetime.combine(now.astimezone(UTC).date(), time(), UTC)
    return end - window, end


def sharing_checks(spec: ModelLineSpec) -> int:
    """How many checks share the promise of false alarms: those whose failure starts a retrain, this one at least."""
    return max(1, len(_SHARING.intersection(spec.retrain.named_triggers)))


def level_of_a_day(spec: ModelLineSpec) -> float:
    """The chance of a false alarm that one verdict on the whole line may take each day from the month's promise."""
    return min(spec.drift.false_alarms_per_month / DAYS_OF_A_MONTH / sharing_checks(spec), 0.5)


def say_compared(left_over: LeftOver, lacking: Mapping[str, int]) -> str:
    """Which models of a fleet were compared with a part of their holdout, and which with nothing; empty where all of it was.

    Args:
        left_over: the parents that share their rows.
        lacking: rows by parent that has no holdout rows of their kind.
    """
    said = ""
    if left_over.summaries:
        named = _name_some(sorted(left_over.summaries))
        said = f" What {named} scored was compared with those holdout rows that no model below would serve."
    if lacking:
        named = _name_some([f"{parent} ({rows:,} rows)" for parent, rows in lacking.items()])
        said += f" Not judged: {named}, of whose holdout no such rows were kept."
    return said


def _name_some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_SAID:,} more" if len(names) > _MOST_SAID else ""
    return ", ".join(names[:_MOST_SAID]) + more


def _judge(
    stores: LineStores,
    check: CheckKind,
    now: datetime,
    span: tuple[datetime, datetime],
    serving: Sequence[Serving],
    comparisons: Sequence[Comparison],
) -> Judgement:
    spec = stores.spec
    versions = {entry.segment: entry.version for entry in serving}
    history = stores.drift_results.count_exceeded(spec.name, check, span[1], spec.drift.hysteresis.of - 1, versions)
    report, judged = evaluate_drift(comparisons, spec.drift, history, sharing_checks(spec))
    if comparisons:
        stores.drift_results.record(spec.name, check, span, versions, report, judged)
    return Judgement(
        check=check,
        passed=not report.drifted,
        summary=report.reason,
        champion_version=versions.get(ALL, max(versions.values(), default=0)),
        data_as_of_utc=newest_feature_row(stores) or NEVER,
        picture=plot_drift(report),
        numbers=drift_numbers(report),
        failing_segments=report.failing_segments[:MOST_NAMED_SEGMENTS],
        over_days=draw_over_days(stores, check, span[1], report),
    )


def draw_over_days(stores: LineStores, check: CheckKind, last: datetime, report: DriftReport) -> bytes | None:
    """A fleet's worst segments over the days up to `last`, whose verdict is recorded; of one segment there is no picture."""
    if len(report.segments) < 2:
        return None
    cells = stores.drift_results.segment_days(stores.spec.name, check, last, DAYS, MOST_SEGMENTS)
    return plot_segment_days(cells, report, last.date())


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
