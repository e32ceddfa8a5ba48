"""The one writer of `ops/retrain_ledger`: every cause of a retrain, step by step, and what came of it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pyarrow as pa
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from factory_assets.contracts.retraining import BY_HAND, RESOLVED, UNSETTLED, Cause, LedgerEntry, Resolution, RetrainHistory
from factory_assets.storage.delta.lake import UTC_TIMESTAMP, Lake, PinnedTable, TableSpec

RETRAIN_LEDGER = TableSpec(
    name="ops/retrain_ledger",
    schema=pa.schema(
        [
            ("sequence", pa.int64()),
            ("step", pa.int64()),
            ("cause", pa.string()),
            ("line", pa.string()),
            ("segment", pa.string()),
            ("trigger", pa.string()),
            ("champion_version", pa.int64()),
            ("data_as_of_utc", UTC_TIMESTAMP),
            ("state", pa.string()),
            ("attempts", pa.int64()),
            ("failures", pa.int64()),
            ("run_key", pa.string()),
            ("run_id", pa.string()),
            ("strategy", pa.string()),
            ("next_step", pa.string()),
            ("next_step_at_utc", UTC_TIMESTAMP),
            ("reserved_cpu_seconds", pa.float64()),
            ("expected_loss", pa.float64()),
            ("outcome_version", pa.int64()),
            ("summary", pa.string()),
            ("reason", pa.string()),
            ("evidence", pa.string()),
            ("evaluated_at_utc", UTC_TIMESTAMP),
            ("at_utc", UTC_TIMESTAMP),
            ("recorded_at_utc", UTC_TIMESTAMP),
        ]
    ),
    keys=("sequence", "step"),
)

_APPLICATION = "retrain_ledger"
_TRIES = 20
_CAUSE_FIELDS = tuple(Cause.__dataclass_fields__)
_ENTRY_FIELDS = tuple(name for name in LedgerEntry.__dataclass_fields__ if name != "cause")
_NEWEST_STEPS = (
    "select * from ledger qualify row_number() over (partition by cause order by sequence desc, step desc) = 1 "
    "order by sequence, step"
)
_NEWEST_ANSWERS = """
    select
        segment,
        max_by(at_utc, (sequence, step)) as at_utc,
        max_by(recorded_at_utc, (sequence, step)) as recorded_at_utc
    from newest
    where line = ? and list_contains(?, state)
    group by segment
"""
_KEPT_CHAMPIONS = """
    select distinct segment, epoch_us(at_utc) as moment
    from ledger
    where line = ? and state = 'kept_champion' and trigger <> ?
    order by all
"""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Answer = TypeVar("Answer")


class LedgerContentionError(RuntimeError):
    """Others wrote the ledger between our reading and our writing, again and again."""


class LedgerLayoutError(RuntimeError):
    """The table was written by a release that kept another kind of record."""


def find_ledger(lake: Lake) -> PinnedTable | None:
    """The ledger's table, pinned; None before the first commit.

    Raises:
        LedgerLayoutError: when it has not the columns of this release: read as if it had, causes would be lost unseen.
    """
    pinned = lake.find(RETRAIN_LEDGER.name)
    absent = [] if pinned is None else [name for name in RETRAIN_LEDGER.schema.names if name not in pinned.columns]
    if absent:
        raise LedgerLayoutError(
            f"Delta table {RETRAIN_LEDGER.name!r} at {lake.uri(RETRAIN_LEDGER.name)} was written by an older release: "
            f"it has no column {', '.join(absent)}. Stop the factory and move that folder out of the lake: "
            "a new ledger is begun, and whatever still fails opens its cause again. The old one stays readable as it is."
        )
    return pinned


@dataclass(frozen=True)
class RetrainLedger:
    """A book of steps that only grows. Each commit has a number, and is written only on the state it was decided on."""

    lake: Lake

    def history(self, line: str) -> RetrainHistory:
        """What decisions on `line` need to know: unsettled causes of all lines, and what was answered of this one."""
        pinned = find_ledger(self.lake)
        if pinned is None:
            return RetrainHistory()
        newest = self.lake.query(_NEWEST_STEPS, ledger=pinned)
        unsettled, resolved = sorted(UNSETTLED), sorted(RESOLVED)
        waiting = self.lake.query("from newest where list_contains(?, state)", [unsettled], newest=newest)
        # A long-lived line has many answered causes. Of each only the name leaves Arrow; times do once a segment.
        settled = self.lake.query(
            "select cause from newest where line = ? and list_contains(?, state)", [line, resolved], newest=newest
        )
        answered = self.lake.query(_NEWEST_ANSWERS, [line, resolved], newest=newest).to_pydict()
        return RetrainHistory(
            sequence=_sequence(pinned),
            unsettled={row["cause"]: _from_row(row) for row in waiting.to_pylist()},
            settled=frozenset(settled.column("cause").to_pylist()),
            resolved={
                (line, segment): Resolution(at, recorded)
                for segment, at, recorded in zip(
                    answered["segment"], answered["at_utc"], answered["recorded_at_utc"], strict=True
                )
            },
        )

    def kept_champions(self, line: str) -> list[tuple[str, datetime]]:
        """Segments and instants (factory time) at which a retrain left the champion as it was, once for each retrain.

        Those that a person started are not among them.
        """
        pinned = find_ledger(self.lake)
        if pinned is None:
            return []
        found = self.lake.query(_KEPT_CHAMPIONS, [line, BY_HAND], ledger=pinned).to_pydict()
        moments = (_EPOCH + timedelta(microseconds=moment) for moment in found["moment"])
        return list(zip(found["segment"], moments, strict=True))

    def sequence(self) -> int:
        """The number of the newest commit; 0 before the first."""
        pinned = find_ledger(self.lake)
        return 0 if pinned is None else _sequence(pinned)

    def entries(self, line: str) -> list[LedgerEntry]:
        """All steps of a line, in the order they were written."""
        find_ledger(self.lake)
        return [_from_row(row) for row in self.lake.rows(RETRAIN_LEDGER, "line = ?", [line])]

    def write(self, entries: Iterable[LedgerEntry], sequence: int) -> bool:
        """Takes down a batch as the commit after `sequence`; False when that has been written by somebody else."""
        rows = [_to_row(entry, sequence + 1, step) for step, entry in enumerate(entries)]
        if not rows:
            return True
        table = pa.Table.from_pylist(rows, schema=RETRAIN_LEDGER.schema)
        return self.lake.append_once(RETRAIN_LEDGER, table, _APPLICATION, sequence + 1)

    def transact(self, line: str, decide: Callable[[RetrainHistory], tuple[Iterable[LedgerEntry], Answer]]) -> Answer:
        """Reads, decides and writes as one step: what was decided on a state that has passed is decided again.

        Raises:
            LedgerContentionError: when others are in between every time.
        """
        patient = Retrying(
            retry=retry_if_exception_type(LedgerContentionError),
            stop=stop_after_attempt(_TRIES),
            wait=wait_random_exponential(multiplier=0.02, max=1),
            reraise=True,
        )
        answer: Answer = patient(self._try, line, decide)
        return answer

    def _try(self, line: str, decide: Callable[[RetrainHistory], tuple[Iterable[LedgerEntry], Answer]]) -> Answer:
        history = self.history(line)
        entries, answer = decide(history)
        if not self.write(entries, history.sequence):
            raise LedgerContentionError(
                f"the ledger moved on from commit {history.sequence} while it was read, {_TRIES} times over"
            )
        return answer


def _sequence(pinned: PinnedTable) -> int:
    return int(pinned.handle.transaction_version(_APPLICATION) or 0)


def _to_row(entry: LedgerEntry, sequence: int, step: int) -> dict[str, Any]:
    row: dict[str, Any] = {"sequence": sequence, "step": step, "cause": entry.cause.key}
    row |= {name: getattr(entry.cause, name) for name in _CAUSE_FIELDS}
    return row | {name: getattr(entry, name) for name in _ENTRY_FIELDS}


def _from_row(row: dict[str, Any]) -> LedgerEntry:
    cause = Cause(**{name: row[name] for name in _CAUSE_FIELDS})
    return LedgerEntry(cause=cause, **{name: row[name] for name in _ENTRY_FIELDS})
