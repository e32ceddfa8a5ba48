"""From failed checks to demands: which segment asks for what, by the rules of the line's policy."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from factory_assets.contracts.retrain_policy import RetrainRule, RetrainSpec
from factory_assets.contracts.retraining import Action, FailedCheck, RetrainHistory, Strategy
from factory_assets.contracts.segments import ALL

_WIDEST_FIRST: tuple[Strategy, ...] = ("full", "changed_segments", "sliding_window")


@dataclass(frozen=True)
class Demand:
    """What one segment asks for: the failures that a rule of the policy acts on, and how."""

    segment: str
    champion_version: int
    failures: Mapping[str, FailedCheck] = field(default_factory=dict)
    action: Action = "retrain"
    strategy: Strategy = "changed_segments"


def evaluate_demands(
    line: str,
    policy: RetrainSpec,
    failed: Iterable[FailedCheck],
    serving: Mapping[str, int],
    history: RetrainHistory,
) -> dict[str, Demand]:
    """The demands by segment; a segment without one is not in it.

    A failure of a model that no longer serves demands nothing: whatever replaced it was the answer.
    """
    by_segment: dict[str, dict[str, FailedCheck]] = {}
    for check in failed:
        for segment in check.segments:
            if _is_about_the_serving_model(line, check, segment, serving, history):
                by_segment.setdefault(segment, {})[check.check] = check
    demands = {}
    for segment, failures in by_segment.items():
        demand = _apply_rules(policy, segment, serving.get(segment, 0), failures)
        if demand is not None:
            demands[segment] = demand
    return demands


def _is_about_the_serving_model(
    line: str, check: FailedCheck, segment: str, serving: Mapping[str, int], history: RetrainHistory
) -> bool:
    if segment == ALL:
        return check.champion_version == serving.get(segment, 0)
    # A fleet's verdict is about as many models as it has segments: what was judged before the newest answer is stale.
    answered = history.resolved.get((line, segment))
    return answered is None or check.evaluated_at_utc is None or check.evaluated_at_utc > answered.recorded_at_utc


def _apply_rules(
    policy: RetrainSpec, segment: str, champion_version: int, failures: Mapping[str, FailedCheck]
) -> Demand | None:
    """Retraining goes before alerting, and the widest strategy before the others, when several rules hold."""
    holding = [rule for rule in policy.triggers if rule.triggers <= failures.keys()]
    if not holding:
        return None
    actions = {rule.action or policy.action for rule in holding}
    action: Action = "retrain" if "retrain" in actions else "alert_only"
    acting = [rule for rule in holding if (rule.action or policy.action) == action]
    named = {name: failures[name] for name in sorted(frozenset().union(*(rule.triggers for rule in acting)))}
    return Demand(segment, champion_version, named, action, _widest(policy, acting))


def _widest(policy: RetrainSpec, rules: Sequence[RetrainRule]) -> Strategy:
    chosen = {rule.strategy or policy.strategy for rule in rules}
    return next(strategy for strategy in _WIDEST_FIRST if strategy in chosen)
