"""The RetrainBudget component: limits that all lines share, and the accounts of what retraining did and cost."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from factory_assets.components.declared import DeclaredComponent
from factory_assets.components.ledger_asset import build_ledger_spec, build_table
from factory_assets.components.naming import ACCOUNTS_GROUP, ACCOUNTS_JOB, ACCOUNTS_SCHEDULE, costs_key
from factory_assets.components.scheduled_job import build_scheduled_job
from factory_assets.contracts.budget import RetrainBudgetSpec
from factory_assets.lines.accounts import sum_cause_costs, sum_costs, sum_segment_costs
from factory_assets.resources import LakeResource

_DAYS_SHOWN = 30
_CAUSES_SHOWN = 50


class RetrainBudget(DeclaredComponent[RetrainBudgetSpec]):
    """How much retraining the factory may do, and the accounts of it."""

    spec_model = RetrainBudgetSpec

    def build_sound_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The ledger and the costs as assets, with the job and the schedule that sum up."""
        accounting = build_scheduled_job(
            (ACCOUNTS_JOB, ACCOUNTS_SCHEDULE),
            dg.AssetSelection.assets(costs_key()),
            "40 4 * * *",
            "UTC",
            does="Sums up what work has cost.",
            why="Accounts once a day.",
        )
        return dg.Definitions.merge(dg.Definitions(assets=[build_ledger_spec(), _build_costs_asset()]), accounting)


def find_budget(context: dg.ComponentLoadContext) -> RetrainBudgetSpec | None:
    """The budget of the defs folder that is being loaded; None when it has none, or a broken one."""
    budgets = context.component_tree.get_all_components(of_type=RetrainBudget)
    return budgets[0].declared if budgets else None


def _build_costs_asset() -> dg.AssetsDefinition:
    @dg.asset(
        key=costs_key(),
        description=f"What sources, dbt, training, scoring and checks have cost in the last {_DAYS_SHOWN} days.",
        group_name=ACCOUNTS_GROUP,
        kinds={"delta"},
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(days=2)),
    )
    def costs(lake: LakeResource) -> dg.MaterializeResult[Any]:
        opened, since = lake.open(), datetime.now(UTC) - timedelta(days=_DAYS_SHOWN)
        rows = sum_costs(opened, since)
        return dg.MaterializeResult(
            metadata={
                "price": sum(row["price"] for row in rows),
                "cpu_seconds": sum(row["cpu_seconds"] + row["overhead_cpu_seconds"] for row in rows),
                "bytes_written": sum(row["bytes_written"] for row in rows),
                "by_line_and_kind": build_table(rows),
                "by_segment": build_table(sum_segment_costs(opened, since)),
                "by_cause_of_all_time": build_table(sum_cause_costs(opened)[:_CAUSES_SHOWN]),
            }
        )

    return costs
