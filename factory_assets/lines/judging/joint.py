"""Does what hangs together in the newest rows hang together as it did at training?"""

from datetime import datetime

import numpy as np
from threadpoolctl import threadpool_limits

from factory_assets.contracts.drift_policy import JointDriftSpec
from factory_assets.contracts.model_versions import ModelVersion
from factory_assets.contracts.reports import DriftReport, JointReport, SegmentDrift
from factory_assets.contracts.segments import ALL
from factory_assets.core.drift.alarms import DAYS_OF_A_MONTH, confirm
from factory_assets.core.drift.joint import DatedRows, encode_rows, evaluate_joint
from factory_assets.core.drift.verdicts import FeatureTable
from factory_assets.core.pictures.joint_plots import plot_joint
from factory_assets.core.pictures.plots import nothing_to_show
from factory_assets.lines.judging.drift import level_of_a_day, sharing_checks, whole_days
from factory_assets.lines.judging.judgement import NEVER, Judgement, newest_feature_row
from factory_assets.lines.stores import LineStores
from factory_assets.storage.tables.drift_windows import read_share

_ROW = "joint distribution"


def judge_joint_drift(stores: LineStores, now: datetime, run_id: str) -> Judgement:
    """The feature rows of the newest whole days against the sample that the champion's training kept, by a classifier."""
    spec = stores.spec
    champion = stores.versions.champion(spec.name)
    span = whole_days(spec.drift.window, now)
    report = _compare(stores, champion, span) if champion is not None else "Not judged: no model serves yet."
    if champion is None or isinstance(report, str):
        return Judgement(
            check="joint_drift",
            passed=True,
            summary=str(report),
            champion_version=champion.version if champion else 0,
            data_as_of_utc=newest_feature_row(stores) or NEVER,
            picture=nothing_to_show(str(report)),
            numbers={"judged": False},
        )
    drifted, windows = _confirm(stores, report, champion, span)
    waiting = ""
    if report.exceeded and not drifted:
        waiting = f" Exceeded in {windows} of the {spec.drift.hysteresis.hits} windows that it takes."
    return Judgement(
        check="joint_drift",
        passed=not drifted,
        summary=report.reason + waiting,
        champion_version=champion.version,
        data_as_of_utc=newest_feature_row(stores) or NEVER,
        picture=plot_joint(report),
        numbers={
            "auc": report.auc,
            "size": report.size,
            "p_value": report.p_value,
            "aucs_of_trainings_own_windows": list(report.own_aucs),
            "leading_features": [name for name, loss in report.importance[:5] if loss > 0],
            "reference_rows": report.reference_rows,
            "current_rows": report.current_rows,
            "windows_exceeded": windows,
            "judged": report.judged,
        },
    )


def _compare(stores: LineStores, champion: ModelVersion, span: tuple[datetime, datetime]) -> JointReport | str:
    """The report, or the sentence that says why there is none."""
    spec = stores.spec
    sample = stores.drift_samples.read(spec.name, champion.version, champion.numeric, champion.categorical)
    if sample is None:
        return f"Not judged: no rows of v{champion.version}'s training were kept; the next training keeps some."
    table = stores.lake.find(f"features/{spec.feature_set}")
    learnt = [name for name in (*champion.numeric, *champion.categorical) if name not in spec.drift.ignore]
    features = [name for name in learnt if table is not None and name in table.columns]
    if table is None or not features:
        return f"Not judged: features/{spec.feature_set} has none of the features that v{champion.version} learnt from."
    current = read_share(stores.lake, table, features, spec.as_of, spec.row_key, span, sample.share)
    frame = current.drop_columns(["day"]).to_pandas()
    sides = (
        DatedRows(encode_rows(sample.frame, sample.frame, features), sample.days),
        DatedRows(encode_rows(frame, sample.frame, features), current["day"].to_numpy()),
    )
    # One thread: the fits are small, and threads that wait for each other's core make them slower by far.
    with threadpool_limits(limits=1):
        return evaluate_joint(
            *sides,
            features,
            [name in champion.categorical for name in features],
            spec.drift.joint or JointDriftSpec(),
            window_days=max(spec.drift.window.days, 1),
            gap_days=spec.validation.holdout.days,
            level=level_of_a_day(spec),
            seed=spec.validation.seed,
        )


def _confirm(
    stores: LineStores, report: JointReport, champion: ModelVersion, span: tuple[datetime, datetime]
) -> tuple[bool, int]:
    """Whether it drifted after hysteresis, and in how many windows it exceeded; kept in `ops/drift` like a feature."""
    spec, versions = stores.spec, {ALL: champion.version}
    history = stores.drift_results.count_exceeded(spec.name, "joint_drift", span[1], spec.drift.hysteresis.of - 1, versions)
    drifted, windows = confirm({ALL: report.exceeded}, history, spec.drift.hysteresis.hits)[ALL]
    segment = SegmentDrift(
        segment=ALL,
        judged=report.judged,
        exceeded=report.exceeded,
        drifted=drifted,
        reference_rows=report.reference_rows,
        current_rows=report.current_rows,
        windows_exceeded=windows,
        p_value=report.p_value,
        false_alarms_per_month=report.p_value * DAYS_OF_A_MONTH * sharing_checks(spec),
        worst_feature=_ROW,
        severity=report.auc / report.size,
    )
    kept = DriftReport(drifted, (segment,), (), spec.drift.false_alarms_per_month, report.reason)
    row = FeatureTable(
        segments=np.array([ALL], dtype=object),
        features=np.array([_ROW], dtype=object),
        measures=np.array(["auc"], dtype=object),
        effects=np.array([report.auc]),
        thresholds=np.array([report.size]),
        p_values=np.array([report.p_value]),
        p_adjusted=np.array([report.p_value]),
        exceeded=np.array([report.exceeded]),
        reference_rows=np.array([report.reference_rows]),
        current_rows=np.array([report.current_rows]),
    )
    stores.drift_results.record(spec.name, "joint_drift", span, versions, kept, row)
    return drifted, windows
