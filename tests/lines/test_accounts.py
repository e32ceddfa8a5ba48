"""Costs by segment and by cause add up to what the runs took."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory_assets.contracts.costs import Cost, Usage, Work
from factory_assets.contracts.retraining import Cause, LedgerEntry
from factory_assets.lines.accounts import read_ledger_standing, sum_cause_costs, sum_costs, sum_segment_costs
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.tables.costs import Costs
from factory_assets.storage.tables.retrain_ledger import RetrainLedger

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def a_cost(run: str, segment: str, cpu: float, kind: str = "models", run_key: str = "fleet:1:1") -> Cost:
    usage = Usage(cpu, 0.0, cpu, 1, 1, 1)
    work = Work(run, f"fleet__{kind}", kind, f"fleet/{kind}", "fleet", run_key)  # type: ignore[arg-type]
    return Cost(work, segment, usage, cpu / 100, NOON)


def asked(segment: str, trigger: str, run: str = "run", run_key: str = "fleet:1:1", state: str = "running") -> LedgerEntry:
    cause = Cause("fleet", segment, trigger, 1, NOON)
    return LedgerEntry(cause, state, NOON, NOON, "", run_key=run_key, run_id=run)  # type: ignore[arg-type]


def by_cause(lake: Lake) -> dict[tuple[str, str], float]:
    return {(row["segment"], row["trigger"]): row["cpu_seconds"] for row in sum_cause_costs(lake)}


def record(folder: Path, costs: Sequence[Cost], *commits: Sequence[LedgerEntry]) -> Lake:
    lake = Lake(str(folder))
    if costs:
        Costs(lake).record(costs)
    for number, commit in enumerate(commits):
        assert RetrainLedger(lake).write(commit, number)
    return lake


def test_without_costs_or_causes_there_is_nothing_to_tell(tmp_path: Path) -> None:
    assert sum_cause_costs(Lake(str(tmp_path))) == []
    assert sum_segment_costs(Lake(str(tmp_path)), NOON) == []


def test_a_segments_own_fit_is_its_causes_and_the_rest_is_shared(tmp_path: Path) -> None:
    costs = [a_cost("run", "a", 6.0), a_cost("run", "b", 2.0), a_cost("run", "AA", 3.0), a_cost("run", "all", 3.0, "check")]
    lake = record(tmp_path, costs, [asked("a", "feature_drift"), asked("a", "model_age"), asked("b", "feature_drift")])
    # The parent AA and the checks are 2 of each of the three causes; the 6 of `a` are shared by its two.
    assert by_cause(lake) == {("a", "feature_drift"): 5.0, ("a", "model_age"): 5.0, ("b", "feature_drift"): 4.0}
    dearest = sum_segment_costs(lake, NOON - timedelta(hours=1))
    assert [(row["segment"], row["cpu_seconds"]) for row in dearest] == [("a", 6.0), ("AA", 3.0), ("all", 3.0), ("b", 2.0)]


def test_every_attempt_counts_and_what_a_person_started_too(tmp_path: Path) -> None:
    by_hand = "fleet:by-hand:mine"
    lake = record(
        tmp_path,
        [
            a_cost("first", "all", 2.0, run_key="fleet:1:1"),
            a_cost("second", "all", 3.0, run_key="fleet:2:1"),
            a_cost("mine", "all", 4.0, run_key=""),
            a_cost("hourly", "all", 9.0, "check", run_key=""),
        ],
        [asked("all", "quality", "", state="requested"), asked("all", "quality", "first")],
        [asked("all", "quality", "second", "fleet:2:1")],
        [asked("all", "by_hand", "mine", by_hand)],
    )
    assert by_cause(lake) == {("all", "quality"): 5.0, ("all", "by_hand"): 4.0}
    assert {row["trigger"]: row["attempts"] for row in sum_cause_costs(lake)} == {"quality": 2, "by_hand": 1}


def test_the_way_from_verdict_to_answer_is_told_leg_by_leg_and_in_times_of_the_training(tmp_path: Path) -> None:
    seconds = {"open": 20, "requested": 21, "running": 28, "promoted": 44}  # after the verdict, which was at noon
    cause = Cause("fleet", "all", "quality", 1, NOON)
    steps = [
        LedgerEntry(cause, state, NOON, NOON + timedelta(seconds=after), "", run_key="fleet:1:1", evaluated_at_utc=NOON)  # type: ignore[arg-type]
        for state, after in seconds.items()
    ]
    (told,) = read_ledger_standing(record(tmp_path, [], steps)).delays
    legs = ("judged_to_seen", "seen_to_requested", "requested_to_started", "started_to_answered", "judged_to_answered")
    assert [told[f"{leg}_seconds"] for leg in legs] == [20, 1, 7, 16, 44]
    assert told["times_the_training"] == (44 - 20) / 16


SEGMENTS = st.sampled_from(["a", "b", "c", "AA", "all"])


@settings(max_examples=15)
@given(
    costs=st.lists(st.tuples(SEGMENTS, st.floats(0.1, 100)), min_size=1, max_size=12),
    causes=st.sets(st.tuples(SEGMENTS, st.sampled_from(["quality", "model_age"])), min_size=1, max_size=6),
)
def test_causes_and_segments_add_up_to_the_run_whatever_it_served(
    tmp_path_factory: pytest.TempPathFactory, costs: list[tuple[str, float]], causes: set[tuple[str, str]]
) -> None:
    lake = record(
        tmp_path_factory.mktemp("lake"),
        [a_cost("run", segment, cpu) for segment, cpu in costs],
        [asked(segment, trigger) for segment, trigger in sorted(causes)],
    )
    whole = pytest.approx(sum(cpu for _, cpu in costs))
    assert sum(by_cause(lake).values()) == whole
    assert sum(row["cpu_seconds"] for row in sum_segment_costs(lake, NOON)) == whole
    assert sum(row["cpu_seconds"] + row["overhead_cpu_seconds"] for row in sum_costs(lake, NOON)) == whole
