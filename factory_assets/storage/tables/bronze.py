"""The one writer of `bronze/*` and of `ops/quarantine`: raw files in, contracted rows out.

Two gates. The contract judges rows (contracted_rows.py): a bad one is quarantined alone. The day as a whole is judged
against the days before it (core/incidents): a broken one is held, which means that its files stay where they landed and
nothing of it is published.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

import pyarrow as pa

from factory_assets.contracts.incidents import BatchProfile, Finding, Incident
from factory_assets.contracts.source import PARTITION_COLUMN, SourceSpec
from factory_assets.core.incidents.lifecycle import accepted_kinds, end_incidents, open_incident
from factory_assets.core.incidents.verdict import evaluate_batch, is_expected
from factory_assets.storage.delta.lake import FACTORY_TIME, UTC_TIMESTAMP, Lake, TableSpec
from factory_assets.storage.landing import LandedFile, LandingFileError, check_columns, days_of, fingerprint_files
from factory_assets.storage.sql import equals_any, literal
from factory_assets.storage.tables.batch_profiles import BatchProfiles
from factory_assets.storage.tables.contracted_rows import batch_day, judge_rows
from factory_assets.storage.tables.incidents import Incidents
from factory_assets.storage.tables.ingested_files import IngestedFiles

_ARROW_TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "bigint": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": UTC_TIMESTAMP,
}

_NO_ROWS = pa.table({})

QUARANTINE = TableSpec(
    name="ops/quarantine",
    schema=pa.schema(
        [
            ("source", pa.string()),
            (PARTITION_COLUMN, pa.date32()),
            ("file", pa.string()),
            ("reason", pa.string()),
            ("row", pa.string()),
            ("quarantined_at_utc", UTC_TIMESTAMP),
        ]
    ),
    keys=("source", PARTITION_COLUMN, "file", "row"),
    partition_by=("source",),
)


@dataclass(frozen=True)
class IngestReport:
    """What one ingest did, in files, rows and days; `version` is None when nothing changed."""

    files: int
    unchanged_files: int
    rows: int
    quarantined: int
    partitions: tuple[str, ...]
    version: int | None
    held: tuple[Incident, ...] = ()
    ended: tuple[Incident, ...] = ()


class HeldDaysError(RuntimeError):
    """Days are broken or missing: nothing of them was published, and readers keep what they had. The other days are in."""

    def __init__(self, message: str, report: IngestReport) -> None:
        super().__init__(message)
        self.report = report


def bronze_table(spec: SourceSpec) -> TableSpec:
    """The Delta table of a source: its contract's columns, the day, and where and when each row came from."""
    columns = [(name, _ARROW_TYPES[column.type]) for name, column in spec.columns.items()]
    day = [(PARTITION_COLUMN, pa.date32())] if spec.partitions else []
    origin = [("_source_file", pa.string()), ("_ingested_at_utc", UTC_TIMESTAMP)]
    partition_by = (PARTITION_COLUMN,) if spec.partitions else ()
    return TableSpec(f"bronze/{spec.name}", pa.schema([*columns, *day, *origin]), spec.keys, partition_by)


@dataclass(frozen=True)
class BronzeWriter:
    """Ingests one source. The same file twice changes nothing; a late file makes its day be read again, once."""

    lake: Lake
    spec: SourceSpec
    timezone: str = "UTC"

    def ingest(self, files: Sequence[LandedFile], now: datetime, expected: Sequence[date] = ()) -> IngestReport:
        """Brings the days of `files` to exactly what the files say, skips days that already are, and holds broken ones.

        Of rows with equal keys in one day the last file in name order wins. The record of ingested files is written
        last, so that a process killed half-way does the day again and ends with the same rows.

        Args:
            files: the files of the days that are asked for.
            now: factory time.
            expected: days that should have files by now; one without is an incident if the feed usually has that weekday.

        Raises:
            HeldDaysError: when a day is broken or missing, with the report of the rest, which is in.
        """
        known = Incidents(self.lake).read(self.spec.name)
        changed = self._changed(files, known)
        absent = set(expected) - {file.day for file in files}
        if not changed and not absent:
            return IngestReport(len(files), len(files), 0, 0, (), None)
        batch = self._judge(changed, known, now)
        self._quarantine(batch.bad, batch.read)
        published = [file for file in changed if file.day not in batch.held]
        version = None
        if published:
            good = _without_days(batch.good, batch.held, self.spec.partitions is not None)
            version = self._publish(good, published, now)
        BatchProfiles(self.lake, self.spec.name).write(batch.profiles, {batch_day(f.day, now) for f in published})
        held, ended = self._follow_up(known, batch.held, published, absent, files, now)
        if published:
            IngestedFiles(self.lake, self.spec).record(published, now)
        days = tuple(sorted({file.partition or "all" for file in published}))
        rows = good.num_rows if published else 0
        report = IngestReport(len(files), len(files) - len(changed), rows, batch.bad.num_rows, days, version)
        return self._report(report, held, ended)

    def _changed(self, files: Sequence[LandedFile], known: Sequence[Incident]) -> list[LandedFile]:
        """Files of days that are not in as they lie there, and of held ones: the old files put back end an incident too."""
        changed = set(IngestedFiles(self.lake, self.spec).changed(files))
        held = {incident.day if self.spec.partitions else None for incident in known if incident.is_open}
        return [file for file in files if file in changed or file.day in held]

    def _report(self, report: IngestReport, held: Sequence[Incident], ended: Sequence[Incident]) -> IngestReport:
        complete = replace(report, held=tuple(held), ended=tuple(ended))
        if held:
            raise HeldDaysError(self._describe(held), complete)
        return complete

    def _judge(self, changed: Sequence[LandedFile], known: Sequence[Incident], now: datetime) -> "_Judged":
        """Reads the changed files once; a file that cannot be read holds its day and no other."""
        broken: dict[date | None, list[Finding]] = {}
        layouts: dict[LandedFile, tuple[str, ...]] = {}
        for file in changed:
            try:
                layouts[file] = check_columns(self.spec, file)
            except LandingFileError as error:
                finding = Finding(
                    "schema_change", ", ".join(error.columns), 0, "the declared columns", str(error).rstrip(".")
                )
                broken.setdefault(file.day, []).append(finding)
        read = [file for file in layouts if file.day not in broken]
        if not read:
            return _Judged([], _NO_ROWS, QUARANTINE.schema.empty_table(), [], broken)
        rows = judge_rows(self.spec, read, len({layouts[file] for file in read}) > 1, self.timezone, now)
        held = broken | self._evaluate(rows.profiles, rows.breaches, read, known)
        return _Judged(read, rows.good, rows.bad, rows.profiles, held)

    def _evaluate(
        self,
        profiles: Sequence[BatchProfile],
        breaches: dict[date | None, Finding],
        files: Sequence[LandedFile],
        known: Sequence[Incident],
    ) -> dict[date | None, list[Finding]]:
        """Judges day after day; a day that is held is no history of the next one."""
        first, last = profiles[0].day - self.spec.incidents.history, profiles[-1].day
        history = {batch.day: batch for batch in BatchProfiles(self.lake, self.spec.name).read_published(first, last)}
        held: dict[date | None, list[Finding]] = {}
        for profile in profiles:
            day = profile.day if self.spec.partitions else None
            accepted = accepted_kinds(known, profile.day, _fingerprint_files(files, day))
            found: list[Finding] = []
            if accepted is not None:
                verdict = evaluate_batch(profile, list(history.values()), self.spec.incidents)
                found = [finding for finding in verdict.findings if finding.kind not in accepted]
                if day in breaches and "contract_breach" not in accepted:
                    found.append(breaches[day])
            if found:
                held[day] = found
                history.pop(profile.day, None)
            else:
                history[profile.day] = profile
        return held

    def _follow_up(
        self,
        known: Sequence[Incident],
        held: dict[date | None, list[Finding]],
        published: Sequence[LandedFile],
        absent: Collection[date],
        files: Sequence[LandedFile],
        now: datetime,
    ) -> tuple[list[Incident], list[Incident]]:
        """Opens incidents for held and missing days, and ends those of published ones; returns both."""
        wall_now = datetime.now(UTC)
        opened = []
        for day, findings in sorted(held.items(), key=str):
            of_day = batch_day(day, now)
            mark = _fingerprint_files(files, day)
            opened.append(open_incident(known, self.spec.name, of_day, mark, findings, now, wall_now))
        for missing in self._missing(absent):
            finding = Finding("late_partition", "", 0, f"files of {missing}", "none")
            mark = _fingerprint_files((), missing)
            opened.append(open_incident(known, self.spec.name, missing, mark, [finding], now, wall_now))
        days = {batch_day(file.day, now) for file in published}
        if not self.spec.partitions and published:
            days |= {incident.day for incident in known}
        ended = end_incidents(known, sorted(days), now, wall_now)
        Incidents(self.lake).write([*opened, *ended])
        return opened, ended

    def _missing(self, absent: Collection[date]) -> list[date]:
        if not absent:
            return []
        present = IngestedFiles(self.lake, self.spec).days()
        return [day for day in sorted(absent) if is_expected(day, present, self.spec.incidents)]

    def _publish(self, good: pa.Table, files: Sequence[LandedFile], now: datetime) -> int:
        predicate = equals_any(PARTITION_COLUMN, days_of(files)) if self.spec.partitions else None
        return self.lake.replace(bronze_table(self.spec), good, predicate, note={FACTORY_TIME: now.isoformat()})

    def _quarantine(self, rows: pa.Table, files: Sequence[LandedFile]) -> None:
        days = equals_any(PARTITION_COLUMN, days_of(files))
        if rows.num_rows or self.lake.find(QUARANTINE.name) is not None:
            self.lake.replace(QUARANTINE, rows, f"source = {literal(self.spec.name)} and ({days})")

    def _describe(self, held: Sequence[Incident]) -> str:
        shown = "; ".join(
            f"{incident.day if self.spec.partitions else 'the whole file'}: {incident.summary}" for incident in held
        )
        return (
            f"source {self.spec.name!r}: {len(held)} broken or missing day(s), of which nothing was published; readers keep "
            f"what they had. {shown} Refused rows lie in ops/quarantine. Land mended files and the days are taken in by "
            f"themselves, or say that they are right: factory accept {self.spec.name} {held[0].day}"
        )


@dataclass(frozen=True)
class _Judged:
    """What the changed files hold; `held` has the days that must not be published, with what is wrong in them."""

    read: list[LandedFile]
    good: pa.Table
    bad: pa.Table
    profiles: list[BatchProfile]
    held: dict[date | None, list[Finding]]


def _fingerprint_files(files: Sequence[LandedFile], day: date | None) -> str:
    """The files of one day, as one hash."""
    return fingerprint_files([file for file in files if file.day == day])


def _without_days(rows: pa.Table, days: Collection[date | None], dated: bool) -> pa.Table:
    if not days or rows.num_rows == 0:
        return rows
    if not dated:
        return rows.slice(0, 0)
    return rows.filter(pa.array([day not in days for day in rows.column(PARTITION_COLUMN).to_pylist()], pa.bool_()))
