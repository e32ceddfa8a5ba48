"""The gate: does the challenger become champion?"""

import math

from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.reports import Evaluation, PromotionDecision


def decide_promotion(spec: ModelLineSpec, challenger: Evaluation, champion: Evaluation | None) -> PromotionDecision:
    """Promotes a challenger that beats the dummy, keeps the line's bounds and, if so declared, beats the champion.

    Every comparison is strict, so a tie changes nothing. A value that is NaN or infinite never wins, and never
    protects: a champion without a finite one is beaten by any challenger that passes the rest.

    Args:
        spec: the model line: metric, direction, bounds.
        challenger: on the holdout.
        champion: on the same holdout rows; None when the line has no champion yet.

    Raises:
        ValueError: when the two were not evaluated on equally many rows.
    """
    if champion is not None and champion.rows != challenger.rows:
        raise ValueError(
            f"champion and challenger must be evaluated on the same holdout: {champion.rows} and {challenger.rows} rows"
        )
    value = challenger.scores.get(spec.metric, math.nan)
    reigning = None if champion is None else champion.scores.get(spec.metric, math.nan)
    objection = _objection(spec, value, challenger.dummy.get(spec.metric, math.nan), reigning)
    if objection:
        return PromotionDecision(False, f"Not promoted: {objection}.", value, reigning)
    rows = f"on {challenger.rows:,} holdout rows"
    if reigning is None:
        reason = f"Promoted: the first champion, {_shown(spec, value)} {rows}."
    elif not math.isfinite(reigning):
        reason = f"Promoted: {_shown(spec, value)} {rows}, where the champion has no value."
    else:
        against = f"against the champion's {reigning:.4f}"
        reason = f"Promoted: {_shown(spec, value)} {against} {rows}."
    return PromotionDecision(True, reason, value, reigning)


def _objection(spec: ModelLineSpec, value: float, dummy: float, reigning: float | None) -> str:
    """The first rule that the challenger breaks, as half a sentence; empty when there is none."""
    gate = spec.promote_when
    shown = _shown(spec, value)
    if not math.isfinite(value):
        return f"{spec.metric} of the challenger is undefined on this holdout ({value})"
    if not _better(spec, value, dummy):
        return f"{shown} does not beat the dummy model's {dummy:.4f}"
    if gate.at_least is not None and value < gate.at_least:
        return f"{shown} is below promote_when.at_least, {gate.at_least:g}"
    if gate.at_most is not None and value > gate.at_most:
        return f"{shown} is above promote_when.at_most, {gate.at_most:g}"
    if gate.better_than_champion and reigning is not None and math.isfinite(reigning) and not _better(spec, value, reigning):
        return f"{shown} does not beat the champion's {reigning:.4f}"
    return ""


def _better(spec: ModelLineSpec, value: float, other: float) -> bool:
    """Strictly; False whenever one of them is NaN."""
    return value > other if spec.higher_is_better else value < other


def _shown(spec: ModelLineSpec, value: float) -> str:
    return f"{spec.metric} {value:.4f}"
