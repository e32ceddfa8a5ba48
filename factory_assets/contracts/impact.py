"""What an edit of the dbt project would change: frozen reports, from the model's meaning to the lines that read it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

# `affected`: unchanged itself, but it reads what changed. `unrecorded`: published without a record to compare with.
ChangeKind = Literal["new", "removed", "changed", "affected", "unrecorded"]


@dataclass(frozen=True)
class ModelChange:
    """One dbt model whose table would be another. `columns` gives each affected column with the reason."""

    table: str
    kind: ChangeKind
    # Which rows the table holds may change, and with them every column.
    rows: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableDiff:
    """How the rows of one table would differ from the published ones. Rows are matched by `key`; without one, as wholes."""

    table: str
    key: tuple[str, ...]
    published_version: int | None
    rows_before: int
    rows_after: int
    added: int
    removed: int
    changed: int
    # Of rows that are in both: how many have another value in this column.
    changed_columns: Mapping[str, int] = field(default_factory=dict)
    # Keys of some rows, by `added`, `removed` and `changed`.
    samples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class RetrainCost:
    """What a retrain of a line took before. `source` says where that is recorded."""

    seconds: float
    runs: int
    source: str


@dataclass(frozen=True)
class LineImpact:
    """A model line that reads an affected column, and what its retrain would take (None: it was never trained)."""

    line: str
    feature_set: str
    features: tuple[str, ...]
    label: tuple[str, ...]
    keys: tuple[str, ...]
    rows: bool
    cost: RetrainCost | None = None


@dataclass(frozen=True)
class ImpactReport:
    """The whole answer. `compared_with` is the published state or a git ref."""

    compared_with: str
    models: tuple[ModelChange, ...]
    lines: tuple[LineImpact, ...]
    diffs: tuple[TableDiff, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes its meaning."""
        return not self.models
