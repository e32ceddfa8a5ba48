"""How a fleet as a whole is seen in Dagster: a table of the last decisions, and a check on what failed."""

from typing import Any

import dagster as dg

from factory_assets.components.metering import metered
from factory_assets.components.naming import FAILING_SEGMENTS_METADATA, models_key
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.core.metrics import unless_nan
from factory_assets.core.pictures.history_plots import MOST_TRAININGS, plot_trainings
from factory_assets.core.pictures.plots import image_markdown
from factory_assets.lines.training import TrainingOutcome
from factory_assets.resources import LakeResource
from factory_assets.storage.tables.promotion_history import PromotionHistory

# What is shown of a fleet in one table; all of it lies in `ops/promotions`.
_MOST_LISTED = 50


def fleet_check_keys(spec: ModelLineSpec) -> list[dg.AssetCheckKey]:
    """The checks that only a fleet has: one, red while a segment could not be trained."""
    return [dg.AssetCheckKey(models_key(spec.name), "segments_trained")] if spec.segment_by else []


def build_failed_segments_check(spec: ModelLineSpec) -> dg.AssetChecksDefinition:
    """Red while the last training of a segment failed, with each one's reason; a retrain tries only those again."""
    (key,) = fleet_check_keys(spec)

    @dg.asset_check(asset=key.asset_key, name=key.name, description="The last training of every segment succeeded.")
    @metered("check", f"{key.asset_key.to_user_string()}:{key.name}", spec.name)
    def check(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> dg.AssetCheckResult:
        history = PromotionHistory(lake.open())
        failed = history.failed_segments(spec.name)
        named = ", ".join(list(failed)[:3]) + (", …" if len(failed) > 3 else "")
        summary = f"{len(failed)} segments failed: {named}" if failed else "No segment failed."
        reasons = [dg.TableRecord({"segment": segment, "reason": reason}) for segment, reason in failed.items()]
        table = {"reasons": dg.MetadataValue.table(reasons[:_MOST_LISTED])} if reasons else {}
        picture = plot_trainings(history.trainings(spec.name, MOST_TRAININGS), len(failed))
        metadata = {
            "picture": dg.MetadataValue.md(image_markdown(picture, summary)),
            FAILING_SEGMENTS_METADATA: dg.MetadataValue.json(list(failed)),
            **table,
        }
        return dg.AssetCheckResult(
            passed=not failed, severity=dg.AssetCheckSeverity.WARN, description=summary, metadata=metadata
        )

    return check


def describe_fleet(outcome: TrainingOutcome) -> dict[str, Any]:
    """The fleet as a whole beside its global model, counts, and what failed first."""
    rows, cycle = outcome.decisions, outcome.cycle
    failed = [row for row in rows if row["outcome"] == "failed"]
    return {
        "segments_fitted": cycle.fitted,
        "segments_failed": len(failed),
        "segments_promoted": sum(bool(row["promoted"]) for row in rows),
        f"fleet_{cycle.metric}": unless_nan(cycle.fleet_value),
        f"global_{cycle.metric}": unless_nan(cycle.global_value),
        "exam_rows": cycle.exam_rows,
        FAILING_SEGMENTS_METADATA: dg.MetadataValue.json([row["segment"] for row in failed]),
        "segments": dg.MetadataValue.table(
            [
                dg.TableRecord(
                    {
                        "segment": row["segment"],
                        "state": row["outcome"],
                        "promoted": bool(row["promoted"]),
                        "serves": bool(row["serves"]),
                        "value": row["challenger_value"],
                        "parent": row["parent_value"],
                        "reason": row["reason"],
                    }
                )
                for row in sorted(rows, key=_worst_first)[:_MOST_LISTED]
            ]
        ),
    }


def _worst_first(row: dict[str, Any]) -> tuple[bool, bool, str]:
    return row["outcome"] != "failed", not row["promoted"], row["segment"]
