"""The asset `<line>/report`: the drift report of the line as one HTML page."""

from datetime import timedelta
from typing import Any

import dagster as dg

from factory_assets.components.model_line.opening import open_stores
from factory_assets.components.naming import CADENCE_TAG, LINE_TAG, REPORT_CADENCE, predictions_key, report_key
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.lines.reporting import write_report
from factory_assets.resources import ClockResource, LakeResource, MlflowResource
from factory_assets.settings import FactorySettings


def build_report_asset(spec: ModelLineSpec) -> dg.AssetsDefinition:
    """One page, written anew each day; the run of the champion in MLflow keeps a copy."""

    @dg.asset(
        key=report_key(spec.name),
        deps=[dg.AssetDep(predictions_key(spec.name), partition_mapping=dg.AllPartitionMapping())],
        description=f"How {spec.name} is: its checks, drift by segment and feature, distributions, quality over time.",
        group_name=spec.name,
        kinds={"html", "plotly"},
        owners=list(spec.owners) or None,
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=36)),
        tags={CADENCE_TAG: REPORT_CADENCE, LINE_TAG: spec.name},
    )
    def report(lake: LakeResource, mlflow: MlflowResource, clock: ClockResource) -> dg.MaterializeResult[Any]:
        stores = open_stores(spec, lake, mlflow)
        page = write_report(stores, clock.open().now()).encode()
        settings = FactorySettings()
        path = settings.reports / f"{spec.name}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        draft.write_bytes(page)
        draft.replace(path)
        champion = stores.versions.champion(spec.name)
        if champion is not None and champion.mlflow_run_id:
            stores.registry.log_page(champion.mlflow_run_id, "report.html", page)
        return dg.MaterializeResult(
            metadata={
                "report": dg.MetadataValue.path(str(path)),
                "open": dg.MetadataValue.url(f"{settings.reports_url.rstrip('/')}/{path.name}"),
                "size_bytes": len(page),
                "champion_version": champion.version if champion else 0,
            }
        )

    return report
