"""How a cycle answers the causes that asked for it, segment by segment."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from factory_assets.contracts.reports import PromotionDecision
from factory_assets.contracts.retraining import Outcome
from factory_assets.contracts.segments import ALL


def list_answers(decision: PromotionDecision, rows: Iterable[Mapping[str, Any]], version: int) -> dict[str, Outcome]:
    """How a retrain answers for the line as a whole (`all`), and for each segment that it looked at.

    Args:
        decision: of the line.
        rows: of `ops/promotions`, those of the cycle.
        version: of the cycle.
    """
    state: Literal["promoted", "kept_champion"] = "promoted" if decision.promote else "kept_champion"
    answers = {row["segment"]: _answer(row) for row in rows}
    return {**answers, ALL: Outcome(state, decision.reason, version)}


def _answer(row: Mapping[str, Any]) -> Outcome:
    if row["outcome"] == "failed":
        return Outcome("failed", row["reason"])
    return Outcome("promoted" if row["promoted"] else "kept_champion", row["reason"], row["version"])
