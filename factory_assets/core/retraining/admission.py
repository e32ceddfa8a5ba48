"""Which of the segments that are due are retrained now: within places and budget, the greatest expected loss first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from factory_assets.contracts.retraining import Capacity, LedgerEntry, NextStep, Price, RetrainHistory, Strategy


@dataclass(frozen=True)
class Candidate:
    """A segment that is due, with all its causes; `expected_loss` is what waiting costs, in the unit of all candidates."""

    segment: str
    entries: tuple[LedgerEntry, ...]
    strategy: Strategy
    expected_loss: float


@dataclass(frozen=True)
class Batch:
    """Segments that go into one run, and the CPU seconds that are set aside for it."""

    candidates: tuple[Candidate, ...]
    strategy: Strategy
    reserved_cpu_seconds: float


@dataclass(frozen=True)
class Admission:
    """The runs to ask for, and why the others wait: for a place, for tomorrow's budget, or for a person."""

    batches: tuple[Batch, ...]
    waiting: tuple[tuple[Candidate, NextStep, datetime | None, str], ...]


def expected_loss(effect: float, rows_a_day: float, paid: int, judged: int) -> float:
    """What a day without the retrain is expected to cost: effect by traffic by how often a retrain has paid.

    The unit is effect-weighted rows a day, the same for all lines. The share that paid is Laplace's rule of succession,
    so that a line without a past counts as one in two.

    >>> expected_loss(effect=0.4, rows_a_day=1000, paid=0, judged=0)
    200.0
    """
    return effect * rows_a_day * (paid + 1) / (judged + 2)


def decide_admission(
    line: str,
    candidates: Sequence[Candidate],
    line_segments: int,
    price: Price,
    capacity: Capacity,
    history: RetrainHistory,
    in_flight: int,
) -> Admission:
    """Admits batches until places or budget are used up.

    Causes of other lines that already wait for a place or for budget, and lose more by waiting, come first: their place
    and their share of the budget are left to them.

    Args:
        line: whose candidates these are.
        candidates: in any order; the strategy `full` takes all of its kind into one run.
        line_segments: how many segments a run with the strategy `full` trains.
        price: what a run is expected to take.
        capacity: places of the factory, and what is left of today's CPU seconds.
        history: tells who else waits.
        in_flight: requests of the whole factory without an answer.
    """
    ordered = sorted(candidates, key=lambda c: (-c.expected_loss, min(e.cause.data_as_of_utc for e in c.entries), c.segment))
    left = capacity.cpu_seconds_left_today
    batches: list[Batch] = []
    while ordered:
        first = ordered[0]
        alike = [candidate for candidate in ordered if candidate.strategy == first.strategy]
        fewest = max(line_segments, len(alike)) if first.strategy == "full" else 1
        others, their_cpu = _ahead(line, first.expected_loss, history)
        free = capacity.runs_at_once - in_flight - len(batches) - others
        affordable = None if left is None else price.affordable(left - their_cpu)
        refusal = _refuse(capacity, price, fewest, free, affordable, left)
        if refusal:
            return Admission(tuple(batches), tuple((candidate, *refusal) for candidate in ordered))
        most = (
            len(alike) if first.strategy == "full" else min(capacity.segments_a_run, affordable or capacity.segments_a_run)
        )
        taken = tuple(alike[:most])
        reserved = price.expect(max(fewest, len(taken)))
        batches.append(Batch(taken, first.strategy, reserved))
        left = None if left is None else left - reserved
        served = {candidate.segment for candidate in taken}  # each segment is one candidate
        ordered = [candidate for candidate in ordered if candidate.segment not in served]
    return Admission(tuple(batches), ())


def _refuse(
    capacity: Capacity, price: Price, fewest: int, free: int, affordable: int | None, left: float | None
) -> tuple[NextStep, datetime | None, str] | None:
    """Why not even the smallest run may start now; None when it may."""
    a_day, needed = capacity.cpu_seconds_a_day, price.expect(fewest)
    if a_day is not None and needed > a_day:
        return "person", None, f"one run takes about {needed:.0f} CPU s and a whole day has {a_day:.0f}: raise the budget"
    if free <= 0:
        return "place", None, f"all {capacity.runs_at_once} places for retrains are taken or promised"
    if affordable is not None and affordable < fewest:
        return "budget", capacity.tomorrow_utc, f"{max(left or 0.0, 0.0):.0f} CPU s are left of today's {a_day or 0.0:.0f}"
    return None


def _ahead(line: str, loss: float, history: RetrainHistory) -> tuple[int, float]:
    """Places and CPU seconds that other lines' waiting causes have a better claim to."""
    lines: dict[str, float] = {}
    for entry in history.unsettled.values():
        waits = entry.next_step in ("place", "budget")
        if waits and entry.cause.line != line and entry.expected_loss > loss:
            lines[entry.cause.line] = lines.get(entry.cause.line, 0.0) + entry.reserved_cpu_seconds
    return len(lines), sum(lines.values())


def count_in_flight(history: RetrainHistory, written: Mapping[str, LedgerEntry]) -> int:
    """Requests of the whole factory without an answer, after the steps that are about to be written."""
    newest = {**history.unsettled, **written}
    return len({entry.run_key for entry in newest.values() if entry.state in ("requested", "running")})
