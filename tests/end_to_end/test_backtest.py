"""A backtest of half a year of real flights beside what a real daemon decided on the same days."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from factory_assets.components.model_line.retraining import newest_instant
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.retraining import RESOLVED
from factory_assets.core.backtesting.moments import look_at
from factory_assets.demo.plan import FULL, Slice
from factory_assets.demo.replay import landing_instant
from factory_assets.installation import load_calendar, load_lines
from factory_assets.lines.backtesting.history import read_history
from factory_assets.lines.backtesting.replay import Replay
from factory_assets.lines.backtesting.scores import Scorer
from factory_assets.lines.backtesting.trainings import Trainings
from factory_assets.lines.backtesting.windows import FeatureWindows
from factory_assets.lines.stores import LineStores
from factory_assets.settings import FactorySettings
from factory_assets.storage.artefact_store import ArtefactStore
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.mlflow.registry import MlflowRegistry
from factory_assets.storage.tables.retrain_ledger import RetrainLedger

pytestmark = pytest.mark.slow
LINES = {line.name: line for line in load_lines(FactorySettings())}


def replay_the_demo(lake: Lake, line: ModelLineSpec) -> Replay:
    """The line's own policy, looked at whenever the demo looked: after the history, and after each fortnight."""
    calendar = load_calendar(FactorySettings())
    assert calendar is not None
    history = read_history(lake, line, calendar.timezone)
    stores = LineStores(line, lake, ArtefactStore(Path("/nowhere")), MlflowRegistry("sqlite:////nowhere", "/nowhere"))
    trainings = Trainings(stores, history)
    scorer = Scorer(history, trainings.shelf)
    replay = Replay(line, calendar, history, trainings, scorer, FeatureWindows(history), newest_instant)
    played = (FULL.history, *FULL.slices)
    replay.play([look_at(calendar.timezone, days_of(part), landing_instant(part.last)) for part in played])
    return replay


def days_of(part: Slice) -> list[date]:
    return [part.first + timedelta(days=place) for place in range((part.last - part.first).days + 1)]


@pytest.mark.parametrize("name", LINES)
def test_the_replay_decides_as_the_daemon_did(played_demo: Path, name: str) -> None:
    lake = Lake(str(played_demo / "lake"))
    ledger: dict[str, tuple[date, set[str], str]] = {}
    for entry in RetrainLedger(lake).entries(name):
        if entry.state in RESOLVED:
            known = ledger.setdefault(entry.run_key, (entry.at_utc.date(), set(), str(entry.state)))
            known[1].add(entry.cause.trigger)
    decided = list(ledger.values())
    assert decided
    replay = replay_the_demo(lake, LINES[name])
    assert [(r.at_utc.date(), set(r.triggers), str(r.outcome)) for r in replay.retrains] == decided


def test_the_gate_says_the_same_to_the_last_digit(played_demo: Path) -> None:
    """Not of `departure_volume`: a flight that left a day late was not in the hour's count yet, and is today."""
    lake = Lake(str(played_demo / "lake"))
    reasons = [entry.reason for entry in RetrainLedger(lake).entries("arrival_delay") if entry.state in RESOLVED]
    replay = replay_the_demo(lake, LINES["arrival_delay"])
    assert [retrain.reason for retrain in replay.retrains] == reasons
    found = {
        entry.summary for entry in RetrainLedger(lake).entries("arrival_delay") if entry.cause.trigger == "feature_drift"
    }
    mine = {entry.summary for entry in replay.book.entries if entry.cause.trigger == "feature_drift"}
    assert found == mine
