"""The asset `<line>/paybacks`: whether the line's promotions paid, judged by the hourly run once enough lies behind them."""

from datetime import timedelta
from typing import Any

import dagster as dg

from factory_assets.components.ledger_asset import build_table, show_ledger
from factory_assets.components.metering import metered
from factory_assets.components.model_line.opening import open_stores
from factory_assets.components.naming import CADENCE_TAG, LINE_TAG, MONITOR_CADENCE, models_key, paybacks_key, table_key
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.names import format_duration
from factory_assets.lines.paybacks import PaybackOutcome, judge_paybacks
from factory_assets.resources import ClockResource, LakeResource, MlflowResource

_MOST_LISTED = 50


def build_paybacks_asset(spec: ModelLineSpec, has_ledger_asset: bool) -> dg.AssetsDefinition:
    """Judges what is due; the ledger's asset is shown anew when something was judged."""
    policy = spec.retrain.payback

    @dg.asset(
        key=paybacks_key(spec.name),
        deps=[models_key(spec.name), table_key("marts", spec.label.model)],
        description=(
            f"Did promotions of {spec.name} pay? Each is compared with the model it replaced, on the same rows of at least "
            f"{format_duration(policy.window)} after it."
        ),
        group_name=spec.name,
        kinds={"delta"},
        owners=list(spec.owners) or None,
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=6)),
        tags={CADENCE_TAG: MONITOR_CADENCE, LINE_TAG: spec.name},
    )
    @metered("paybacks", f"{spec.name}/paybacks", spec.name)
    def paybacks(
        context: dg.AssetExecutionContext, lake: LakeResource, mlflow: MlflowResource, clock: ClockResource
    ) -> dg.MaterializeResult[Any]:
        stores = open_stores(spec, lake, mlflow)
        outcome = judge_paybacks(stores, clock.open().now())
        if outcome.judged and has_ledger_asset:
            for event in show_ledger(stores.lake):
                context.log_event(event)
        return dg.MaterializeResult(metadata=_describe(outcome, stores.paybacks.of_line(spec.name)))

    return paybacks


def _describe(outcome: PaybackOutcome, judged: list[dict[str, Any]]) -> dict[str, Any]:
    newest = sorted(judged, key=lambda row: (row["judged_at_utc"], row["promoted_at_utc"]), reverse=True)[:_MOST_LISTED]
    shown = ("segment", "version", "replaced_version", "verdict", "gain", "gain_low", "gain_high", "rows", "reason")
    return {
        "judged_now": len(outcome.judged),
        "waiting_for_time_or_labels": len(outcome.waiting),
        **{verdict: sum(row["verdict"] == verdict for row in judged) for verdict in ("paid", "did_not_pay", "undecided")},
        "newest": build_table([{name: row[name] for name in shown if row[name] is not None} for row in newest]),
    }
