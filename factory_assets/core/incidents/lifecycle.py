"""The life of an incident: opened, accepted, ended, what it holds back meanwhile, and which days are taken in again."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from factory_assets.contracts.incidents import Finding, Incident, IncidentKind
from factory_assets.contracts.retraining import FailedCheck
from factory_assets.core.incidents.verdict import describe_findings, sort_findings

_LONG_AGO = datetime(1971, 1, 1, tzinfo=UTC)


def open_incident(
    known: Sequence[Incident],
    source: str,
    day: date,
    files: str,
    findings: Sequence[Finding],
    now: datetime,
    wall_now: datetime,
) -> Incident:
    """The incident of a held day: the one that is open already, with what was found now, or a new one."""
    ordered = sort_findings(findings)
    summary = describe_findings(ordered)
    before = next((incident for incident in known if incident.day == day and incident.is_open), None)
    if before is None:
        return Incident(source, day, ordered[0].kind, "open", files, ordered, summary, now, wall_now)
    return replace(before, kind=ordered[0].kind, state="open", files=files, findings=ordered, summary=summary)


def end_incidents(known: Sequence[Incident], days: Sequence[date], now: datetime, wall_now: datetime) -> list[Incident]:
    """The open incidents of days that are published now: repaired, or published because a person accepted them."""
    return [
        replace(
            incident,
            state="published" if incident.state == "accepted" else "repaired",
            ended_at_utc=now,
            ended_recorded_at_utc=wall_now,
        )
        for incident in known
        if incident.is_open and incident.day in days
    ]


def accepted_kinds(known: Sequence[Incident], day: date, files: str) -> set[IncidentKind] | None:
    """What a person accepted for a day: None means everything, in exactly these files; else kinds that hold it no more."""
    of_day = [incident for incident in known if incident.day == day and incident.state in ("accepted", "published")]
    if any(incident.files == files for incident in of_day):
        return None
    return {finding.kind for incident in of_day for finding in incident.findings}


def hold_back(
    failed: Sequence[FailedCheck], incidents: Sequence[Incident], window: timedelta
) -> tuple[list[FailedCheck], str]:
    """The failed checks that may start a retrain, and a sentence on those that may not because a feed is broken.

    A check is held back while an incident is open on a day from `window` before its data on: it looked at a window with a
    hole in it, or found data late because it is held. After the incident has ended, a verdict from before its end says
    nothing: the next one counts. Once the day has left the window, an incident that nobody mends holds nothing back.

    Args:
        failed: failed checks of one line.
        incidents: incidents of the sources upstream of the line.
        window: how far back the line's checks look.
    """
    kept: list[FailedCheck] = []
    reasons: dict[str, set[str]] = {}
    for check in failed:
        blocking = [incident for incident in incidents if _spoils(incident, check, window)]
        if not blocking:
            kept.append(check)
        for incident in blocking[:1]:
            what = f"{incident.kind.replace('_', ' ')} of {incident.source} on {incident.day}"
            waits = what if incident.is_open else f"{what}, which ended after the verdict"
            reasons.setdefault(waits, set()).add(check.check)
    held = "; ".join(f"{', '.join(sorted(checks))} held back by {what}" for what, checks in sorted(reasons.items()))
    return kept, f"Broken, not drifted: {held}." if held else ""


def _spoils(incident: Incident, check: FailedCheck, window: timedelta) -> bool:
    # A day of slack: a day of the calendar begins up to half a day before or after that of UTC.
    if incident.day < (max(check.data_as_of_utc, _LONG_AGO) - window).date() - timedelta(days=1):
        return False
    if incident.is_open:
        return True
    ended, judged = incident.ended_recorded_at_utc, check.evaluated_at_utc
    return ended is not None and judged is not None and judged < ended


def decide_catch_up(open_incidents: Sequence[Incident], files_now: Mapping[tuple[str, date], str]) -> dict[date, str]:
    """The days to take in again, each with a digest of why: its files were mended, or a person accepted them.

    The same state of the same files gives the same digest, so a day is asked for once for each change.
    """
    causes: dict[date, list[str]] = {}
    for incident in open_incidents:
        files = files_now.get((incident.source, incident.day))
        if incident.state == "accepted" or (files is not None and files != incident.files):
            causes.setdefault(incident.day, []).append(f"{incident.source} {incident.state} {files}")
    return {
        day: hashlib.sha256("\n".join([str(day), *sorted(why)]).encode()).hexdigest()[:16]
        for day, why in sorted(causes.items())
    }
