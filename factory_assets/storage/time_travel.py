"""Which version of a table is meant: one by its number, or what stood there at an instant.

The instant of a commit is what its writer noted as factory time, so that a replayed history can be asked by its own days;
otherwise it is the time of the commit itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from deltalake.exceptions import DeltaError

from factory_assets.storage.delta import FACTORY_TIME, Lake, PinnedTable


class TimeTravelError(Exception):
    """The version, or the instant, that was asked for is not there, or is not written as one."""


@dataclass(frozen=True)
class Pin:
    """One version, or the newest at an instant; exactly one of the two is given."""

    version: int | None = None
    as_of: datetime | None = None

    @classmethod
    def read(cls, value: Any, where: str) -> "Pin":
        """From what a user writes: `{version: 0}`, `{as_of: <instant>}`, a bare version, or a bare instant.

        Raises:
            TimeTravelError: naming `where` it stands, and what was expected.
        """
        if isinstance(value, Mapping):
            if len(value) != 1 or next(iter(value)) not in ("version", "as_of"):
                raise TimeTravelError(f"{where}: {dict(value)!r} names no version: write version: 0, or as_of: an instant")
            ((kind, value),) = value.items()
            if kind == "version" and not _is_version(value):
                raise TimeTravelError(f"{where}: {value!r} is no version: write a whole number, 0 for the first")
            if kind == "as_of" and _is_version(value):
                raise TimeTravelError(f"{where}: {value!r} is no instant: write one such as 2013-05-01T00:00:00Z")
        return cls(version=value) if _is_version(value) else cls(as_of=read_instant(value, where))


@dataclass(frozen=True)
class Pins:
    """What one invocation reads: some tables at pins of their own, and all others as of one instant, or at their newest.

    `is_invocations` tells whether some pins were asked for by this invocation alone, and are not the project's own.
    """

    tables: Mapping[str, Pin] = field(default_factory=dict)
    as_of: datetime | None = None
    is_invocations: bool = False

    def find(self, lake: Lake, newest: PinnedTable) -> PinnedTable | None:
        """The table at its pin; None when nothing was said of it.

        Raises:
            TimeTravelError: The table has no such version, or did not exist at the instant.
        """
        pin = self.tables.get(newest.name) or (Pin(as_of=self.as_of) if self.as_of else None)
        if pin is None:
            return None
        return _find_version(lake, newest, pin.version) if pin.as_of is None else find_as_of(lake, newest, pin.as_of)


def read_instant(value: Any, where: str) -> datetime:
    """An instant as YAML or a user gives it; a day is its first moment, and without a zone it is UTC.

    Raises:
        TimeTravelError: naming `where` it stands.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            value = None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if not isinstance(value, datetime):
        raise TimeTravelError(f"{where}: not an instant: write one such as 2013-05-01T00:00:00Z")
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def find_as_of(lake: Lake, newest: PinnedTable, instant: datetime) -> PinnedTable:
    """The last version that was written at `instant` or before.

    Raises:
        TimeTravelError: The table's first commit is later.
    """
    commits = newest.handle.history()
    written = [(int(commit["version"]), _instant_of(commit)) for commit in commits]
    versions = [version for version, at in written if at <= instant]
    if not versions:
        first = min(at for _, at in written)
        raise TimeTravelError(
            f"table {newest.name} did not exist at {instant.isoformat()}: its first version is of {first.isoformat()}"
        )
    return _find_version(lake, newest, max(versions))


def _find_version(lake: Lake, newest: PinnedTable, version: int | None) -> PinnedTable:
    if version is None or version == newest.version:
        return newest
    try:
        return lake.pin(newest.name, version)
    except DeltaError as error:
        raise TimeTravelError(
            f"table {newest.name} has no version {version} that can be read: its newest is {newest.version} ({error})"
        ) from error


def _instant_of(commit: Mapping[str, Any]) -> datetime:
    noted = commit.get(FACTORY_TIME)
    if isinstance(noted, str):
        return datetime.fromisoformat(noted)
    return datetime.fromtimestamp(int(commit["timestamp"]) / 1000, tz=UTC)


def _is_version(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
