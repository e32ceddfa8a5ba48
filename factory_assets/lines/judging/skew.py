"""Does training see the features that scoring saw?"""

from datetime import UTC, datetime, time, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from factory_assets.contracts.reports import SkewReport
from factory_assets.core.pictures.quality_plots import plot_skew
from factory_assets.lines.judging.judgement import NEVER, Judgement, newest_feature_row
from factory_assets.lines.stores import LineStores
from factory_assets.storage.delta.lake import UTC_TIMESTAMP

_MOST_NAMED = 5


def judge_skew(stores: LineStores, now: datetime, run_id: str) -> Judgement:
    """Sampled rows of the newest scored days, as training would have them now, against the hashes that scoring left."""
    spec = stores.spec
    champion = stores.versions.champion(spec.name)
    report = SkewReport()
    moments = stores.feature_hashes.read_moments()
    if moments.num_rows:
        rows = stores.training_sets.read_at(moments, spec.skew.window, now)
        report = stores.feature_hashes.compare(rows, stores.calendar.timezone if stores.calendar else "UTC")
        _forget_judged(stores, moments, rows)
    most = max(report.differing.values(), default=0)
    skewed = most > spec.skew.max_share * report.rows
    return Judgement(
        check="skew",
        passed=not skewed,
        summary=_describe(report, skewed),
        champion_version=champion.version if champion else 0,
        data_as_of_utc=newest_feature_row(stores) or NEVER,
        picture=plot_skew(report.differing, report.rows),
        numbers={
            "compared_rows": report.rows,
            "compared_from": report.first.isoformat() if report.first else None,
            "compared_to": report.last.isoformat() if report.last else None,
            "differing_rows": dict(report.differing),
            "differing_days": dict(report.differing_days),
            "judged": report.rows > 0,
        },
    )


def _forget_judged(stores: LineStores, moments: pa.Table, rows: pa.Table) -> None:
    """Drops what lies before the days of `rows`: the window only moves on. Younger rows wait for their label."""
    newest = pc.max(rows[stores.spec.as_of].cast(UTC_TIMESTAMP)).as_py()
    if newest is None:
        return
    start = datetime.combine(newest.date(), time(), UTC) - (stores.spec.skew.window - timedelta(days=1))
    if pc.min(moments["as_of_utc"]).as_py() < start:
        stores.feature_hashes.forget_before(start)


def _describe(report: SkewReport, skewed: bool) -> str:
    if not report.rows:
        return "Not judged: of no row that was scored with its features kept is the label known."
    compared = f"{report.rows:,} sampled rows of {report.first} to {report.last}"
    if not report.differing:
        return f"All {compared} have the features in training that they had when they were scored."
    worst = sorted(report.differing.items(), key=lambda pair: (-pair[1], pair[0]))[:_MOST_NAMED]
    features = ", ".join(f"{name} in {count:,}" for name, count in worst)
    days = list(report.differing_days)
    span = days[0] if len(days) == 1 else f"{len(days)} days between {days[0]} and {days[-1]}"
    return (
        f"Of {compared} {report.differing_rows:,} have other features in training than when they were scored"
        f"{'' if skewed else ', within the limit'}: {features}; all of {span}."
    )
