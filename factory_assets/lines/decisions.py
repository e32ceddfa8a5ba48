"""What a cycle decided: what of it is written down, what it says of the line as a whole, and how MLflow shows it."""

from collections.abc import Mapping

import numpy as np

from factory_assets.contracts.fleet import NodeDecision
from factory_assets.contracts.model_versions import LineStanding
from factory_assets.contracts.reports import PromotionDecision
from factory_assets.contracts.segments import ALL
from factory_assets.lines.stores import LineStores
from factory_assets.storage.mlflow.segments import MlflowSegments


def show_decisions(stores: LineStores, version: int) -> None:
    """Brings MLflow's tags and aliases in line with what was decided; safe to do at any time."""
    spec = stores.spec
    standing = stores.versions.standing(spec.name)
    rows = stores.versions.decisions_on(spec.name, version)
    decision = summarise_decisions(rows)
    stores.registry.record_decision(spec.name, version, decision.promote, decision.reason)
    if standing.serving_version:
        stores.registry.set_champion(spec.name, standing.serving_version)
    if spec.segment_by and spec.mlflow.per_segment == "changed":
        serving = {segment: champion.version for segment, champion in standing.serving.items()}
        MlflowSegments(stores.registry, spec.name).point_champions(serving, (row["segment"] for row in rows))


def summarise_decisions(rows: list[dict[str, object]]) -> PromotionDecision:
    """One decision for the whole line: the root's own words, and counts of the segments where there are any."""
    root = next((row for row in rows if row["segment"] == ALL), None)
    below = [row for row in rows if row["segment"] != ALL]
    promote = any(row["changed"] for row in rows)
    reason = str(root["reason"]) if root is not None else ""
    if below:
        promoted = sum(bool(row["promoted"]) for row in below)
        failed = sum(row["outcome"] == "failed" for row in below)
        fitted = sum(row["outcome"] == "fitted" for row in below)
        left = len(below) - fitted - failed
        counted = f"{promoted} of {fitted:,} fitted segments promoted, {failed} failed, {left:,} not fitted."
        reason = f"{counted} All rows: {reason}" if reason else counted
    value = float(str(root["challenger_value"])) if root is not None and root["challenger_value"] is not None else np.nan
    against = float(str(root["champion_value"])) if root is not None and root["champion_value"] is not None else None
    return PromotionDecision(promote, reason or "Nothing was decided.", value, against)


def list_changes(
    decisions: Mapping[str, NodeDecision], before: LineStanding, trained: frozenset[str]
) -> dict[str, NodeDecision]:
    """What is written down: every trained segment, and those that are served differently from now on."""
    found = {}
    for segment, decision in decisions.items():
        standing = before.segments.get(segment)
        if segment in trained or (standing is not None and standing.serves != decision.serves):
            found[segment] = (
                decision.keep_outcome(standing.outcome) if standing and decision.outcome == "scored" else decision
            )
    return found
