"""When people are told, and of what: one message for all that changed, and none for what they know."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from factory_assets.contracts.alerts import AlertMessage, AlertsSpec, Trouble

_SHOWN = 20
_LONGEST_LINE = 400


@dataclass(frozen=True)
class Told:
    """What was last said of a subject: that it is wrong, or that it is over; and when it was last said to be wrong."""

    wrong: bool
    wrong_at: datetime | None


def decide_alert(
    troubles: Iterable[Trouble], messages: Sequence[AlertMessage], spec: AlertsSpec, wall_now: datetime
) -> AlertMessage | None:
    """The one message that is due, or None.

    New is a trouble that people were not told of, or were told was over; within the cooldown of its last message it waits,
    so that a check which flaps is one message and not ten. A trouble that stays is told again after `remind`. One that is
    over is told once, if its beginning was. A trouble that is no longer in `troubles` says nothing either way.

    Args:
        troubles: all checks with a verdict and all broken days, right or wrong.
        messages: those decided before, in any order.
        spec: the policy.
        wall_now: wall time; a person's patience does not follow a replay.
    """
    told = _fold(messages)
    relevant = [trouble for trouble in troubles if not _is_left_out(trouble, spec)]
    new: list[Trouble] = []
    still: list[Trouble] = []
    over: list[Trouble] = []
    for trouble in sorted(relevant, key=lambda found: found.subject):
        before = told.get(trouble.subject, Told(False, None))
        if trouble.wrong and not before.wrong and _has_passed(before.wrong_at, spec.cooldown, wall_now):
            new.append(trouble)
        elif trouble.wrong and before.wrong and _has_passed(before.wrong_at, max(spec.remind, spec.cooldown), wall_now):
            still.append(trouble)
        elif not trouble.wrong and before.wrong and spec.tell_resolved:
            over.append(trouble)
    if not (new or still or over):
        return None
    wrong, resolved = tuple(t.subject for t in (*new, *still)), tuple(t.subject for t in over)
    return AlertMessage(
        key=_key(told, wrong, resolved),
        at_utc=wall_now,
        troubles=wrong,
        resolved=resolved,
        title=_title(new, still, over),
        body="\n".join([*_part("New", new), *_part("Still wrong", still), *_part("Over", over)]).strip(),
    )


def _fold(messages: Sequence[AlertMessage]) -> dict[str, Told]:
    told: dict[str, Told] = {}
    for message in sorted(messages, key=lambda sent: (sent.at_utc, sent.key)):
        told |= {subject: Told(True, message.at_utc) for subject in message.troubles}
        for subject in message.resolved:
            told[subject] = Told(False, told[subject].wrong_at if subject in told else None)
    return told


def _is_left_out(trouble: Trouble, spec: AlertsSpec) -> bool:
    if spec.severity == "error" and trouble.severity == "warn":
        return True
    name = trouble.subject.partition(" ")[2]
    return any(fnmatchcase(name, pattern) or fnmatchcase(name.rpartition(":")[2], pattern) for pattern in spec.ignore)


def _has_passed(since: datetime | None, span: timedelta, now: datetime) -> bool:
    return since is None or now >= since + span


def _key(told: Mapping[str, Told], wrong: Sequence[str], resolved: Sequence[str]) -> str:
    """Made of the news and of what was known before, and not of the time: a crash before it is kept decides it again."""
    before = [f"{subject} {told[subject].wrong_at}" for subject in (*wrong, *resolved) if subject in told]
    return hashlib.sha256("\n".join([*wrong, "over", *resolved, "after", *before]).encode()).hexdigest()[:16]


def _title(new: Sequence[Trouble], still: Sequence[Trouble], over: Sequence[Trouble]) -> str:
    counted = [(len(new), "new"), (len(still), "still wrong"), (len(over), "over")]
    said = ", ".join(f"{count} {what}" for count, what in counted if count)
    first = next(iter((*new, *still, *over)))
    return (
        f"Factory: {said} ({first.subject.partition(' ')[2]}{' and more' if len(new) + len(still) + len(over) > 1 else ''})"
    )


def _part(title: str, troubles: Sequence[Trouble]) -> list[str]:
    if not troubles:
        return []
    more = [f"- and {len(troubles) - _SHOWN} more"] if len(troubles) > _SHOWN else []
    return [f"{title}:", *(_line(trouble) for trouble in troubles[:_SHOWN]), *more, ""]


def _line(trouble: Trouble) -> str:
    """One line, whatever is in the summary: what comes from data must not look like another entry."""
    segments = f" [{trouble.failing_segments:,} segments]" if trouble.failing_segments else ""
    summary = " ".join(trouble.summary.split())
    shortened = summary if len(summary) <= _LONGEST_LINE else f"{summary[:_LONGEST_LINE]} …"
    link = f" {trouble.link}" if trouble.link else ""
    return f"- {trouble.subject}{segments}: {shortened}{link}"
