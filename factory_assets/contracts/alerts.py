"""What people are told: troubles as they stand, and the messages that went out about them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import Field

from factory_assets.contracts.names import Duration
from factory_assets.contracts.strict import Strict, span

Severity = Literal["warn", "error"]


class AlertsSpec(Strict):
    """Who is told of failed checks and broken feeds, and how often. Where to is a setting, since addresses are secrets."""

    severity: Severity = Field(default="warn", description="`error` leaves out failed checks of the severity WARN.")
    ignore: tuple[str, ...] = Field(
        default=(),
        description="Checks that nobody is told of: a check's name, or `<asset>:<check>`; `*` stands for any text.",
    )
    cooldown: Duration = span("6h", "Least time, by the wall clock, between two messages that the same trouble is there.")
    remind: Duration = span("24h", "A trouble that stays is told again after this long, by the wall clock.")
    tell_resolved: bool = Field(default=True, description="Whether a message says that a trouble is over.")


@dataclass(frozen=True)
class Trouble:
    """One thing that may be wrong: a check or a broken day, as it stands now.

    `subject` names it for good, such as `check arrival_delay/predictions:feature_drift`. `failing_segments` counts the
    segments behind one check of a fleet.
    """

    subject: str
    wrong: bool
    summary: str
    severity: Severity = "error"
    failing_segments: int = 0
    link: str = ""


@dataclass(frozen=True)
class AlertMessage:
    """One message, grouped from all that changed at one tick. `key` is the same for the same news, however often it is sent.

    `delivered` holds the targets, by their place in the settings, that took it; `done` ends the trying.
    """

    key: str
    at_utc: datetime
    troubles: tuple[str, ...]
    resolved: tuple[str, ...]
    title: str
    body: str
    delivered: tuple[int, ...] = ()
    attempts: int = 0
    done: bool = False
