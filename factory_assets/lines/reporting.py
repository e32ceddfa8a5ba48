"""Reads what the drift report of a line shows, and makes the page."""

import json
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from factory_assets.contracts.reports import FeatureDrift
from factory_assets.contracts.segments import ALL
from factory_assets.core.drift.verdicts import describe_segment, evaluate_drift
from factory_assets.core.pictures.report_page import ReportContent, build_report
from factory_assets.lines.judging.drift import sharing_checks, whole_days
from factory_assets.lines.judging.serving import list_serving, window_of_features
from factory_assets.lines.stores import LineStores
from factory_assets.storage.tables.check_results import CHECK_RESULTS
from factory_assets.storage.tables.drift_references import PREDICTION
from factory_assets.storage.tables.drift_results import DRIFT_RESULTS
from factory_assets.storage.tables.drift_windows import compare_window
from factory_assets.storage.tables.model_versions import MODEL_VERSIONS

_DAYS = timedelta(days=90)
_QUALITY = "quality"
_MOST_SEGMENTS = 4


def write_report(stores: LineStores, now: datetime) -> str:
    """The page as of `now`, over the last 90 days."""
    champion = stores.versions.champion(stores.spec.name)
    since = now - _DAYS
    checks = _read(stores, CHECK_RESULTS.name, "evaluated_at_utc", since)
    newest = checks.sort_values("evaluated_at_utc").groupby("check").tail(1) if len(checks) else checks
    return build_report(
        ReportContent(
            line=stores.spec.name,
            champion=champion.version if champion else 0,
            written_at_utc=now,
            checks=newest,
            drift=_read(stores, DRIFT_RESULTS.name, "window_end_utc", since),
            distributions=_read_distributions(stores, now),
            quality=_read_quality(stores, checks),
        )
    )


def _read(stores: LineStores, table: str, moment: str, since: datetime) -> pd.DataFrame:
    found = stores.lake.find(table)
    if found is None:
        return pd.DataFrame()
    rows: pd.DataFrame = stores.lake.query(
        f'select * from t where line = ? and "{moment}" >= ?', [stores.spec.name, since], t=found
    ).to_pandas()
    return rows


def _read_distributions(stores: LineStores, now: datetime) -> dict[str, tuple[FeatureDrift, ...]]:
    """Features of the newest window beside the references: of the model of all rows, then of a fleet's worst segments."""
    spec = stores.spec
    table = stores.lake.find(f"features/{spec.feature_set}")
    serving = list_serving(stores)
    if not serving or table is None:
        return {}
    left_out = {*spec.row_key, PREDICTION, *spec.drift.ignore}
    features = [name for name in spec.features or table.columns if name not in left_out]
    window = window_of_features(stores, table, features, whole_days(spec.drift.window, now))
    comparisons = compare_window(stores.lake, spec.name, window, serving)
    report, judged = evaluate_drift(comparisons, spec.drift, {}, sharing_checks(spec))
    below = [segment for segment in report.segments if segment.segment != ALL and segment.judged]
    shown = [*(segment for segment in report.segments if segment.segment == ALL), *below[:_MOST_SEGMENTS]]
    return {segment.segment: describe_segment(comparisons, judged, segment, spec.drift) for segment in shown}


def _read_quality(stores: LineStores, checks: pd.DataFrame) -> pd.DataFrame:
    """What each version reached on its holdout, and what checks of quality say once labels are there."""
    rows: list[dict[str, Any]] = []
    for version in stores.lake.rows(MODEL_VERSIONS, "line = ? and segment = 'all'", [stores.spec.name]):
        for series, name in (("value", "challenger"), ("baseline_value", "baseline")):
            label = f"{version['metric']} on the holdout, {name}"
            rows.append({"series": label, "at_utc": version["holdout_until_utc"], "value": version[series]})
    for check in checks.itertuples() if len(checks) else ():
        if _QUALITY in str(check.check):
            numbers = json.loads(str(check.numbers))
            rows += [
                {"series": f"{check.check}: {name}", "at_utc": check.evaluated_at_utc, "value": value}
                for name, value in numbers.items()
                if isinstance(value, int | float) and not isinstance(value, bool)
            ]
    return pd.DataFrame(rows)
