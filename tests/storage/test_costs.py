from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from factory_assets.contracts.costs import Cost, Usage, Work
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.tables.costs import Costs

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
USAGE = Usage(10.0, 2.0, 20.0, 100, 5, 6)


def a_cost(run: str, kind: str = "models", run_key: str = "delay:1:1", segment: str = "all", at: datetime = NOON) -> Cost:
    work = Work(run, f"delay__{kind}", kind, f"delay/{kind}", "delay", run_key)  # type: ignore[arg-type]
    return Cost(work, segment, USAGE, 0.01, at)


def test_an_empty_lake_has_cost_nothing(tmp_path: Path) -> None:
    costs = Costs(Lake(str(tmp_path)))
    assert (costs.spent_cpu_seconds(NOON), costs.spent_by_request(), costs.past_retrains("delay")) == (0.0, {}, [])


def test_what_retrains_spent_counts_requests_and_what_was_started_by_hand(tmp_path: Path) -> None:
    costs = Costs(Lake(str(tmp_path)))
    costs.record([a_cost("one", "models"), a_cost("one", "check")])
    costs.record([a_cost("by hand", "training_set", run_key="")])
    costs.record([a_cost("monitor", "check", run_key=""), a_cost("daily", "source", run_key="")])
    costs.record([a_cost("yesterday", at=NOON - timedelta(days=1), run_key="delay:0:1")])
    assert costs.spent_cpu_seconds(NOON - timedelta(hours=12)) == 36.0
    assert costs.spent_by_request() == {"delay:1:1": 24.0, "delay:0:1": 12.0}


def test_past_retrains_tell_segments_and_cpu_newest_first(tmp_path: Path) -> None:
    costs = Costs(Lake(str(tmp_path)))
    costs.record([a_cost("one", segment=segment) for segment in ("a", "b", "c")])
    costs.record([a_cost("two", at=NOON + timedelta(hours=1)), a_cost("two", "check", at=NOON + timedelta(hours=1))])
    costs.record([replace(a_cost("other"), work=replace(a_cost("other").work, line="other"))])
    assert costs.past_retrains("delay") == [(1, 24.0), (3, 36.0)]
    assert costs.past_retrains("delay", limit=1) == [(1, 24.0)]
