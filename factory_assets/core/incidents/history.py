"""The published days before a batch, and what is usual in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from factory_assets.contracts.incidents import BatchProfile, ColumnProfile

_HABITUAL = 0.05


@dataclass(frozen=True)
class History:
    """The published days before a batch, oldest first."""

    days: Sequence[BatchProfile]

    @cached_property
    def columns(self) -> dict[str, list[ColumnProfile]]:
        """Each column's profiles, oldest first."""
        found: dict[str, list[ColumnProfile]] = {}
        for day in self.days:
            for column in day.columns:
                found.setdefault(column.column, []).append(column)
        return found

    def usual_rows(self, weekday: int) -> float:
        """The median of the same weekday where it was seen three times, else of all days."""
        same = [day.rows for day in self.days if day.day.weekday() == weekday]
        return median(same if len(same) >= 3 else [day.rows for day in self.days])

    def counts_days(self, name: str) -> bool:
        """Whether a column holds one value a day and another the next, like a date in parts: it jumps by design."""
        profiles = self.columns.get(name, ())
        return bool(profiles) and all(p.mode_share == 1 for p in profiles) and len({p.content for p in profiles}) > 1

    def is_filled(self, name: str) -> bool:
        """Whether a usual day has most values of a column: of a few gusts an hour no habit can be told."""
        profiles = self.columns.get(name, ())
        return bool(profiles) and median(profile.null_share for profile in profiles) < 0.5

    @cached_property
    def seldom_missing(self) -> frozenset[str]:
        """Columns of which a usual day has nearly all values."""
        return frozenset(
            name for name, profiles in self.columns.items() if median(p.null_share for p in profiles) < _HABITUAL
        )

    def missing_together(self, batch: BatchProfile) -> dict[str, int]:
        """Rows by the columns that they lack together, of those that are seldom missing.

        A column that is often missing (a gust on a calm day) meets any other by chance, and makes new combinations daily.
        """
        found: dict[str, int] = {}
        for pattern, rows in batch.null_patterns.items():
            kept = ",".join(name for name in pattern.split(",") if name in self.seldom_missing)
            if kept:
                found[kept] = found.get(kept, 0) + rows
        return found

    def middle_quantiles(self, name: str) -> tuple[float, ...]:
        """The median over the days of each quantile of a column; empty for one without numbers."""
        known = [column.quantiles for column in self.columns.get(name, ()) if column.quantiles]
        return tuple(median(values) for values in zip(*known, strict=True)) if known else ()
