"""Which version of a table is meant: one by its number, or what stood there at an instant.

Tables that dbt makes are meant as the last run left them that was completed at the instant, so that one instant is one
run's truth, as it was for readers then. Other tables are asked by their own history. The instant of a commit is what its
writer noted as factory time, so that a replayed history can be asked by its own days; otherwise it is the time of the
commit itself.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import duckdb
from deltalake.exceptions import DeltaError

from factory_assets.storage.delta.lake import FACTORY_TIME, PUBLISHES, Lake, PinnedTable
from factory_assets.storage.tables.publishes import Publishes

META_KEY = "delta"


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
    _sets: dict[tuple[str, datetime], Mapping[str, int]] = field(default_factory=dict, compare=False)

    def find(self, lake: Lake, newest: PinnedTable) -> PinnedTable | None:
        """The table at its pin; None when nothing was said of it.

        Raises:
            TimeTravelError: The table has no such version, or did not exist at the instant.
        """
        pin = self.tables.get(newest.name) or (Pin(as_of=self.as_of) if self.as_of else None)
        if pin is None:
            return None
        if pin.as_of is None:
            return _find_version(lake, newest, pin.version)
        key = (lake.root, pin.as_of)
        if key not in self._sets:
            self._sets[key] = read_completed_at(lake, pin.as_of)
        published = self._sets[key].get(newest.name)
        return find_as_of(lake, newest, pin.as_of) if published is None else _find_version(lake, newest, published)


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


def read_completed_at(lake: Lake, instant: datetime) -> Mapping[str, int]:
    """The version of each table that dbt makes after the last run that was completed at `instant`, or before.

    Raises:
        TimeTravelError: The record of that instant is no longer kept.
    """
    record = lake.find(PUBLISHES)
    versions = [] if record is None else [version for version, at in _commits(record) if at <= instant]
    if not versions:
        return {}
    try:
        return Publishes.read(lake, max(versions)).versions
    except (DeltaError, duckdb.Error) as error:
        raise TimeTravelError(
            f"which tables belonged together at {instant.isoformat()} is no longer kept: version {max(versions)} of "
            f"{PUBLISHES} cannot be read; pin the tables by their versions, or list {PUBLISHES} with the versions that have "
            f"to stay under `keep` of the maintenance ({error})"
        ) from error


def declared_pins(manifest: Mapping[str, Any]) -> Iterator[tuple[str, Pin]]:
    """The tables that a dbt project pins by `meta`, as its manifest.json says.

    Raises:
        TimeTravelError: A pin is not written as one.
    """
    for node in [*manifest.get("sources", {}).values(), *manifest.get("nodes", {}).values()]:
        value = ((node.get("config") or {}).get("meta") or {}).get(META_KEY)
        if value is not None:
            name = node.get("identifier") or node.get("alias") or node["name"]
            where = f"{node['original_file_path']}: {node['name']}: config.meta.{META_KEY}"
            yield f"{node['schema']}/{name}", Pin.read(value, where)


def find_as_of(lake: Lake, newest: PinnedTable, instant: datetime) -> PinnedTable:
    """The last version of its own history that was written at `instant` or before.

    Raises:
        TimeTravelError: The table's first commit is later.
    """
    written = _commits(newest)
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


def _commits(table: PinnedTable) -> list[tuple[int, datetime]]:
    return [(int(commit["version"]), _instant_of(commit)) for commit in table.handle.history()]


def _instant_of(commit: Mapping[str, Any]) -> datetime:
    noted = commit.get(FACTORY_TIME)
    if isinstance(noted, str):
        return datetime.fromisoformat(noted)
    return datetime.fromtimestamp(int(commit["timestamp"]) / 1000, tz=UTC)


def _is_version(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
