"""Which days the demo plays, in which slices."""

from dataclasses import dataclass
from datetime import date, timedelta


@dataclass(frozen=True)
class Slice:
    """Days that land and are taken in together; both ends included."""

    first: date
    last: date

    @property
    def key(self) -> str:
        """Names the slice in run tags."""
        return f"{self.first}..{self.last}"


@dataclass(frozen=True)
class Plan:
    """A history to learn from, then slices in which time goes on."""

    history: Slice
    slices: tuple[Slice, ...]

    @property
    def key(self) -> str:
        """Names the plan: two plans of the same days are the same."""
        return " ".join(days.key for days in (self.history, *self.slices))


def build_plan(start: date, history_days: int, slice_days: int, slices: int) -> Plan:
    """History of `history_days` from `start`, then `slices` slices of `slice_days`."""
    history = Slice(start, start + timedelta(days=history_days - 1))
    following = []
    first = history.last + timedelta(days=1)
    for _ in range(slices):
        following.append(Slice(first, first + timedelta(days=slice_days - 1)))
        first += timedelta(days=slice_days)
    return Plan(history, tuple(following))


FULL = build_plan(date(2013, 1, 1), history_days=120, slice_days=14, slices=6)
SMALL = build_plan(date(2013, 1, 1), history_days=42, slice_days=7, slices=1)
