"""The one writer of `ops/alerts`, and the sending: what was decided is kept first, sent then, and marked last.

So a message is delivered at least once to each target: killed between sending and marking, it is sent again, under the same
key in its last line. It is never lost, and never decided anew for the same news.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from factory_assets.contracts.alerts import AlertMessage
from factory_assets.storage.delta.lake import UTC_TIMESTAMP, Lake, TableSpec

_MOST_ATTEMPTS = 20

ALERTS = TableSpec(
    name="ops/alerts",
    schema=pa.schema(
        [
            ("key", pa.string()),
            ("at_utc", UTC_TIMESTAMP),
            ("troubles", pa.list_(pa.string())),
            ("resolved", pa.list_(pa.string())),
            ("title", pa.string()),
            ("body", pa.string()),
            ("delivered", pa.list_(pa.int64())),
            ("attempts", pa.int64()),
            ("done", pa.bool_()),
        ]
    ),
    keys=("key",),
    sort_by=("at_utc",),
)


class BadTargetError(ValueError):
    """A target is no address that apprise knows. The message gives its place in the setting, never the address."""


@dataclass(frozen=True)
class Alerts:
    """One row a message."""

    lake: Lake

    def read(self) -> list[AlertMessage]:
        """All messages, oldest first."""
        return [_from_row(row) for row in self.lake.rows(ALERTS)]

    def write(self, message: AlertMessage) -> None:
        """Keeps a message, or what has become of it."""
        row = {name: getattr(message, name) for name in ALERTS.schema.names}
        self.lake.upsert(ALERTS, pa.Table.from_pylist([row], schema=ALERTS.schema))


def _from_row(row: dict[str, Any]) -> AlertMessage:
    lists = {name: tuple(row[name]) for name in ("troubles", "resolved", "delivered")}
    return AlertMessage(**{**row, **lists})


@dataclass(frozen=True)
class Outbox:
    """Sends to targets given as apprise addresses, which hold secrets: they are in no log, table, error or repr."""

    targets: Sequence[str]

    def __repr__(self) -> str:
        return f"Outbox({len(self.targets)} targets)"

    def check(self) -> None:
        """Raises at once what sending would find out too late.

        Raises:
            BadTargetError: with the place of the first target that cannot be read.
        """
        for place, target in enumerate(self.targets, 1):
            if _open_target(target) is None:
                raise BadTargetError(
                    f"target {place} of FACTORY_ALERT_TARGETS is no address that apprise reads; see its list of services"
                )

    def send(self, message: AlertMessage) -> AlertMessage:
        """Tries each target that has not taken the message yet; returns the message with what became of it."""
        text = f"{message.body}\n\n({message.key})"
        taken = set(message.delivered)
        for place, target in enumerate(self.targets):
            if place not in taken and _deliver(target, message.title, text):
                taken.add(place)
        attempts = message.attempts + 1
        done = len(taken) >= len(self.targets) or attempts >= _MOST_ATTEMPTS
        return replace(message, delivered=tuple(sorted(taken)), attempts=attempts, done=done)


def _open_target(target: str) -> object | None:
    import apprise

    with _SilentApprise():
        return apprise.Apprise.instantiate(target, suppress_exceptions=True)


def _deliver(target: str, title: str, text: str) -> bool:
    import apprise

    with _SilentApprise():
        sender = apprise.Apprise()
        return bool(sender.add(target)) and bool(sender.notify(title=title, body=text, body_format="text"))


class _SilentApprise:
    """Keeps apprise and what it sends through from logging: they quote the address, and with it the secret.

    A webhook's token is a part of its path, which urllib3 logs at DEBUG with every request.
    """

    def __enter__(self) -> None:
        self._loggers = [logging.getLogger(name) for name in ("apprise", "urllib3.connectionpool")]
        self._before = [logger.disabled for logger in self._loggers]
        for logger in self._loggers:
            logger.disabled = True

    def __exit__(self, *_: object) -> None:
        for logger, disabled in zip(self._loggers, self._before, strict=True):
            logger.disabled = disabled
