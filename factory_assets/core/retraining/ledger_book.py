"""The ledger in memory: steps in, the state that decisions need out. What storage does in SQL, said in Python."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from factory_assets.contracts.retraining import RESOLVED, UNSETTLED, LedgerEntry, Resolution, RetrainHistory


@dataclass
class LedgerBook:
    """An append-only book of steps, for a replay without a lake and for tests."""

    entries: list[LedgerEntry] = field(default_factory=list)
    sequence: int = 0
    _unsettled: dict[str, LedgerEntry] = field(default_factory=dict)
    _settled: set[str] = field(default_factory=set)
    _resolved: dict[tuple[str, str], Resolution] = field(default_factory=dict)

    def write(self, entries: Iterable[LedgerEntry], expected_sequence: int) -> bool:
        """Takes down a batch; False, and nothing written, when the book has moved on since it was read."""
        batch = list(entries)
        if expected_sequence != self.sequence:
            return False
        if batch:
            self.sequence += 1
            self.entries.extend(batch)
            for entry in batch:
                self._take_down(entry)
        return True

    def _take_down(self, entry: LedgerEntry) -> None:
        key = entry.cause.key
        self._unsettled.pop(key, None)
        if entry.state in UNSETTLED:
            self._unsettled[key] = entry
        if entry.state in RESOLVED:
            self._settled.add(key)
            self._resolved[entry.cause.line, entry.cause.segment] = Resolution(entry.at_utc, entry.recorded_at_utc)

    def history(self) -> RetrainHistory:
        """The state after all that was written."""
        return RetrainHistory(self.sequence, dict(self._unsettled), frozenset(self._settled), dict(self._resolved))
