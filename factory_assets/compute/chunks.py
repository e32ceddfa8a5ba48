"""Which segments travel together, in which order, and what becomes of a chunk whose worker died under it."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")

# A chunk is at most this part of what each worker has left: large while much is to do, and single items at the end, so
# that no worker ends long after the others (guided self-scheduling, Polychronopoulos and Kuck, 1987).
_PARTS_A_WORKER = 4
_MAX_ITEMS = 64
# A first death may be somebody else's doing (a killed process, a lost machine); a second one is suspicious.
_DEATHS_BEFORE_SUSPICION = 2


@dataclass(frozen=True)
class Lost(Generic[Item]):
    """What stands in place of a result: every worker that took this item died, and `reason` says how."""

    item: Item
    reason: str


def plan_chunks(
    items: Iterable[Item], cost: Callable[[Item], float], workers: int, max_items: int = _MAX_ITEMS
) -> list[tuple[Item, ...]]:
    """Parts items into chunks, the dearest items first and each chunk a part of what is left, down to single items.

    The same items in the same order give the same chunks; an item dearer than a chunk's share travels alone.

    >>> plan_chunks("abcdefghijkl", lambda _: 1.0, workers=1)
    [('a', 'b', 'c'), ('d', 'e'), ('f',), ('g',), ('h',), ('i',), ('j',), ('k',), ('l',)]

    Args:
        items: what to do, each once.
        cost: expected cost of an item, in any unit, not negative.
        workers: how many work at once.
        max_items: most items in a chunk: what is at stake when a worker dies.
    """
    dearest_first = sorted(((cost(item), item) for item in items), key=lambda priced: -priced[0])
    parts = max(1, workers) * _PARTS_A_WORKER
    left = sum(price for price, _ in dearest_first)
    chunks: list[tuple[Item, ...]] = []
    chunk: list[Item] = []
    filled = 0.0
    for price, item in dearest_first:
        if chunk and (len(chunk) == max_items or filled + price > left / parts):
            chunks.append(tuple(chunk))
            left -= filled
            chunk, filled = [], 0.0
        chunk.append(item)
        filled += price
    return [*chunks, tuple(chunk)] if chunk else chunks


@dataclass
class Attempt(Generic[Item]):
    """A chunk on its way: what is left of it, and how many workers died under it since it last made headway."""

    items: tuple[Item, ...]
    deaths: int = 0


@dataclass
class Backlog(Generic[Item]):
    """The chunks that wait for a worker. Headway is kept: only items without a result are handed out again."""

    waiting: deque[Attempt[Item]] = field(default_factory=deque)

    @classmethod
    def of(cls, chunks: Iterable[Sequence[Item]]) -> "Backlog[Item]":
        """All chunks that hold something, in their order."""
        return cls(deque(Attempt(tuple(chunk)) for chunk in chunks if chunk))

    def put_back(self, attempt: Attempt[Item], finished: int, reason: str) -> Iterator[Lost[Item]]:
        """Takes back a chunk whose worker died after `finished` results; yields the item that is found guilty.

        The rest is tried again at once. What kills two workers without headway is cut in halves, until one item is left.
        """
        items, deaths = attempt.items[finished:], 1 if finished else attempt.deaths + 1
        if deaths < _DEATHS_BEFORE_SUSPICION:
            self.waiting.appendleft(Attempt(items, deaths))
        elif len(items) == 1:
            yield Lost(items[0], reason)
        else:
            middle = len(items) // 2
            # Each half has one death on its account: the guilty one is cut again at its next.
            self.waiting.extendleft(Attempt(half, deaths - 1) for half in (items[middle:], items[:middle]))
