"""What every check of a line comes to, whatever its kind."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from factory_assets.contracts.model_line import CheckKind
from factory_assets.contracts.segments import ALL
from factory_assets.lines.stores import LineStores

NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Judgement:
    """One verdict with its evidence; `champion_version` 0 means that no model serves yet.

    `over_days` is the picture of a fleet's segments over the days, where there is one. `failing_segments` are the keys of
    the segments that failed, worst first: none when it passed, and "all" when it failed and none is named.
    """

    check: CheckKind
    passed: bool
    summary: str
    champion_version: int
    data_as_of_utc: datetime
    picture: bytes
    numbers: dict[str, Any] = field(default_factory=dict)
    failing_segments: tuple[str, ...] = ()
    over_days: bytes | None = None

    def __post_init__(self) -> None:
        """Lets only a failed verdict name segments, and every failed one at least one."""
        named = () if self.passed else self.failing_segments or (ALL,)
        object.__setattr__(self, "failing_segments", named)


def newest_feature_row(stores: LineStores) -> datetime | None:
    """As-of time of the newest row of the line's feature set."""
    feature_set = stores.lake.find(f"features/{stores.spec.feature_set}")
    if feature_set is None:
        return None
    newest = stores.lake.query(f'select max("{stores.spec.as_of}") as newest from t', t=feature_set)
    value: datetime | None = newest.column("newest")[0].as_py()
    return value
