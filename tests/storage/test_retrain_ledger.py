"""The ledger's table: commits in one order, what a decision is told, and a table of an older release."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from factory_assets.contracts.retraining import BY_HAND, Cause, LedgerEntry
from factory_assets.core.retraining import LedgerBook
from factory_assets.lines.accounts import read_ledger_standing
from factory_assets.lines.summary import list_retrains, summarise
from factory_assets.storage.delta.lake import UTC_TIMESTAMP, Lake, TableSpec
from factory_assets.storage.tables.retrain_ledger import LedgerLayoutError, RetrainLedger

NOW = datetime(2013, 7, 10, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path))


def entry(segment: str, trigger: str, state: str, day: int = 0) -> LedgerEntry:
    at = NOW + timedelta(days=day)
    return LedgerEntry(Cause("delay", segment, trigger, 1, NOW), state, at, at, state)  # type: ignore[arg-type]


def test_a_commit_that_was_decided_on_an_older_state_is_refused(lake: Lake) -> None:
    ledger = RetrainLedger(lake)
    assert ledger.write([entry("all", "quality", "open")], 0)
    assert not ledger.write([entry("all", "model_age", "open")], 0)
    assert [found.cause.trigger for found in ledger.entries("delay")] == ["quality"]


def test_the_table_tells_a_decision_what_the_book_in_memory_does(lake: Lake) -> None:
    ledger, book = RetrainLedger(lake), LedgerBook()
    commits = [
        [entry("a", "quality", "open"), entry("b", "quality", "open"), entry("a", BY_HAND, "running")],
        [entry("a", "quality", "kept_champion", 1), entry("a", "model_age", "kept_champion", 1)],
        [entry("a", BY_HAND, "kept_champion", 2), entry("b", "quality", "promoted", 2), entry("c", "quality", "raised", 2)],
        [entry("a", "feature_drift", "kept_champion", 3)],
    ]
    for number, commit in enumerate(commits):
        assert ledger.write(commit, number)
        assert book.write(commit, number)
    history = ledger.history("delay")
    assert history == book.history()
    # Once for each run that answered, and not for what a person started.
    assert ledger.kept_champions("delay") == [("a", NOW + timedelta(days=1)), ("a", NOW + timedelta(days=3))]


@pytest.mark.parametrize(
    "read",
    [
        lambda lake: RetrainLedger(lake).history("delay"),
        lambda lake: RetrainLedger(lake).sequence(),
        lambda lake: RetrainLedger(lake).entries("delay"),
        read_ledger_standing,
        list_retrains,
        lambda lake: summarise(lake, ["delay"]),
    ],
    ids=["history", "sequence", "entries", "standing", "retrains", "summary"],
)
def test_a_ledger_of_an_older_release_is_named_with_the_remedy_and_the_remedy_works(
    lake: Lake, read: Callable[[Lake], object]
) -> None:
    """The layout before causes had rows of their own."""
    texts = ("line", "run_key", "state", "reason", "run_id")
    rows = pa.table(
        {
            **{name: ["x"] for name in texts},
            "attempt": [1],
            "causes": [["delay/all/model_age"]],
            "at_utc": pa.array([NOW], UTC_TIMESTAMP),
            "recorded_at_utc": pa.array([NOW], UTC_TIMESTAMP),
        }
    )
    lake.replace(TableSpec("ops/retrain_ledger", rows.schema, ("line", "run_key", "state")), rows)
    with pytest.raises(LedgerLayoutError) as raised:
        read(lake)
    message = str(raised.value)
    assert f"'ops/retrain_ledger' at {lake.root}/ops/retrain_ledger" in message
    assert "no column sequence, step, cause" in message
    assert "move that folder out of the lake" in message
    Path(lake.uri("ops/retrain_ledger")).rename(Path(lake.root) / "old_ledger")
    read(lake)
    assert RetrainLedger(lake).write([entry("all", "quality", "open")], 0)
