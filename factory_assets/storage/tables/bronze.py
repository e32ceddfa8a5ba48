"""The one writer of `bronze/*`, of `ops/quarantine` and of `ops/ingested_files`: raw files in, contracted rows out.

Two gates. The contract judges rows: a bad one is quarantined alone. The day as a whole is judged against the days before it
(core/incidents.py): a broken one is held, which means that its files stay where they landed and nothing of it is published.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

import pyarrow as pa

from factory_assets.contracts.incidents import BatchProfile, Finding, Incident
from factory_assets.contracts.source import PARTITION_COLUMN, ColumnContract, SourceSpec
from factory_assets.core.incidents import accepted_kinds, end_incidents, evaluate_batch, is_expected, open_incident
from factory_assets.storage.delta.lake import FACTORY_TIME, UTC_TIMESTAMP, Lake, TableSpec, connect
from factory_assets.storage.landing import LandedFile, LandingFileError, check_columns, fingerprint_files
from factory_assets.storage.sql import equals_any, literal, quote_identifier
from factory_assets.storage.tables.batch_profiles import BatchProfiles, profile_batches
from factory_assets.storage.tables.incidents import Incidents

_ARROW_TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "bigint": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": UTC_TIMESTAMP,
}
_DUCKDB_TYPES = {
    "string": "varchar",
    "bigint": "bigint",
    "double": "double",
    "boolean": "boolean",
    "date": "date",
    "timestamp": "timestamptz",
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

INGESTED_FILES = TableSpec(
    name="ops/ingested_files",
    schema=pa.schema(
        [
            ("source", pa.string()),
            (PARTITION_COLUMN, pa.date32()),
            ("file", pa.string()),
            ("sha256", pa.string()),
            ("contract", pa.string()),
            ("ingested_at_utc", UTC_TIMESTAMP),
        ]
    ),
    keys=("source", PARTITION_COLUMN, "file"),
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
        changed = self._changed(files)
        known = Incidents(self.lake).read(self.spec.name)
        absent = set(expected) - {_day(file) for file in files}
        if not changed and not absent:
            return IngestReport(len(files), len(files), 0, 0, (), None)
        batch = self._judge(changed, known, now)
        self._replace_days(QUARANTINE, batch.bad, batch.read)
        published = [file for file in changed if _day(file) not in batch.held]
        version = None
        if published:
            good = _without_days(batch.good, batch.held, self.spec.partitions is not None)
            version = self._publish(good, published, now)
        BatchProfiles(self.lake, self.spec.name).write(batch.profiles, {self._batch_day(_day(f), now) for f in published})
        held, ended = self._follow_up(known, batch.held, published, absent, files, now)
        if published:
            self._replace_days(INGESTED_FILES, self._record(published, now), published)
        days = tuple(sorted({file.partition or "all" for file in published}))
        rows = good.num_rows if published else 0
        report = IngestReport(len(files), len(files) - len(changed), rows, batch.bad.num_rows, days, version)
        return self._report(report, held, ended)

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
                broken.setdefault(_day(file), []).append(finding)
        read = [file for file in layouts if _day(file) not in broken]
        if not read:
            return _Judged([], _NO_ROWS, QUARANTINE.schema.empty_table(), [], broken)
        good, bad, breaches, profiles = self._split(read, len({layouts[file] for file in read}) > 1, now)
        return _Judged(read, good, bad, profiles, broken | self._evaluate(profiles, breaches, read, known, now))

    def _evaluate(
        self,
        profiles: Sequence[BatchProfile],
        breaches: dict[date | None, Finding],
        files: Sequence[LandedFile],
        known: Sequence[Incident],
        now: datetime,
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
            of_day = self._batch_day(day, now)
            mark = _fingerprint_files(files, day)
            opened.append(open_incident(known, self.spec.name, of_day, mark, findings, now, wall_now))
        for missing in self._missing(absent):
            finding = Finding("late_partition", "", 0, f"files of {missing}", "none")
            mark = _fingerprint_files((), missing)
            opened.append(open_incident(known, self.spec.name, missing, mark, [finding], now, wall_now))
        days = {self._batch_day(_day(file), now) for file in published}
        if not self.spec.partitions and published:
            days |= {incident.day for incident in known}
        ended = end_incidents(known, sorted(days), now, wall_now)
        Incidents(self.lake).write([*opened, *ended])
        return opened, ended

    def _missing(self, absent: Collection[date]) -> list[date]:
        if not absent:
            return []
        ingested = self.lake.rows(INGESTED_FILES, "source = ?", [self.spec.name])
        present = sorted({row[PARTITION_COLUMN] for row in ingested if row[PARTITION_COLUMN] is not None})
        return [day for day in sorted(absent) if is_expected(day, present, self.spec.incidents)]

    def _batch_day(self, day: date | None, now: datetime) -> date:
        """The day that stands for a batch in profiles and incidents: of a source without days, that of its reading."""
        return now.date() if day is None else day

    def _changed(self, files: Sequence[LandedFile]) -> list[LandedFile]:
        """Files of the days whose files, or whose contract, are not those that were ingested."""
        contract = _fingerprint(self.spec)
        known: dict[date | None, set[tuple[str, str, str]]] = {}
        for row in self.lake.rows(INGESTED_FILES, "source = ?", [self.spec.name]):
            known.setdefault(row[PARTITION_COLUMN], set()).add((row["file"], row["sha256"], row["contract"]))
        seen: dict[date | None, set[tuple[str, str, str]]] = {}
        for file in files:
            seen.setdefault(_day(file), set()).add((file.name, file.sha256, contract))
        return [file for file in files if known.get(_day(file)) != seen[_day(file)]]

    def _split(
        self, files: Sequence[LandedFile], layouts_differ: bool, now: datetime
    ) -> tuple[pa.Table, pa.Table, dict[date | None, Finding], list[BatchProfile]]:
        """Good rows, quarantined rows, the days with too many of those, and what each day looks like."""
        mapping = pa.table(
            {
                "path": [str(file.path) for file in files],
                "file": [file.name for file in files],
                PARTITION_COLUMN: pa.array([_day(file) for file in files], pa.date32()),
            }
        )
        with connect() as connection:
            connection.register("landed", mapping)
            connection.execute(
                f"create temp table judged as {self._judging_sql(layouts_differ)}", [[str(f.path) for f in files]]
            )
            good = connection.sql(self._good_sql(), params=[now]).to_arrow_table()
            bad = connection.sql(
                f"select {literal(self.spec.name)} as source, {PARTITION_COLUMN}, file, reason, "
                "row::varchar as row, ?::timestamptz as quarantined_at_utc from judged where reason <> ''",
                params=[now],
            ).to_arrow_table()
            shares = connection.execute(
                f"select {PARTITION_COLUMN}, count(*) filter (reason <> ''), count(*), mode(reason) filter (reason <> '') "
                f"from judged group by 1 having count(*) filter (reason <> '') > ? * count(*)",
                [self.spec.max_quarantined_share],
            ).fetchall()
            profiles = profile_batches(connection, self.spec, self.timezone, now.date())
        days = {self._batch_day(_day(file), now) for file in files} - {profile.day for profile in profiles}
        profiles += [BatchProfile(self.spec.name, day, 0, 0, ()) for day in days]
        expected = f"at most {self.spec.max_quarantined_share:.0%} of the rows out of contract"
        breaches = {
            day: Finding(
                "contract_breach", reason.partition(":")[0], wrong, expected, f"{wrong} of {rows} rows, mostly: {reason}"
            )
            for day, wrong, rows, reason in shares
        }
        return good, bad, breaches, sorted(profiles, key=lambda profile: profile.day)

    def _reader_sql(self, layouts_differ: bool) -> str:
        # Matching columns by name inspects every file for itself (2.6 s for 127 small files, 0.3 s without).
        by_name = "true" if layouts_differ else "false"
        if self.spec.format == "parquet":
            return f"read_parquet(?, filename = 'path', union_by_name = {by_name})"
        if self.spec.format == "json":
            return f"read_json(?, filename = 'path', union_by_name = {by_name})"
        nulls = "[" + ", ".join(literal(value) for value in self.spec.null_values) + "]"
        options = f"header = true, all_varchar = true, nullstr = {nulls}, union_by_name = {by_name}"
        return f"read_csv(?, filename = 'path', {options})"

    def _judging_sql(self, layouts_differ: bool) -> str:
        """Every raw row with its typed columns, its reasons ('' is good) and its raw text."""
        names = [quote_identifier(name) for name in self.spec.columns]
        raw = ", ".join(f"raw.{name}" for name in names)
        typed = ", ".join(
            f"try_cast(raw.{quote_identifier(name)} as {_DUCKDB_TYPES[column.type]}) as {quote_identifier(name)}"
            for name, column in self.spec.columns.items()
        )
        reasons = ", ".join(_reason_sql(name, column) for name, column in self.spec.columns.items())
        packed = f"struct_pack({', '.join(f'{name} := raw.{name}' for name in names)})"
        return (
            f"select {typed}, landed.file, landed.{PARTITION_COLUMN}, concat_ws('; ', {reasons}) as reason, "
            # The raw text is made only for rows that need it: for all of them it takes as long as everything else.
            f"case when reason <> '' then to_json({packed}) end as row, hash({packed}) as fingerprint "
            f"from (select {raw}, raw.path from {self._reader_sql(layouts_differ)} as raw) as raw join landed using (path)"
        )

    def _good_sql(self) -> str:
        columns = ", ".join(quote_identifier(name) for name in self.spec.columns)
        day = f"{PARTITION_COLUMN}, " if self.spec.partitions else ""
        keys = ", ".join(quote_identifier(key) for key in self.spec.keys)
        return (
            f"select {columns}, {day}file as _source_file, ?::timestamptz as _ingested_at_utc from judged "
            f"where reason = '' qualify row_number() over (partition by {day}{keys} order by file desc, fingerprint) = 1"
        )

    def _publish(self, good: pa.Table, files: Sequence[LandedFile], now: datetime) -> int:
        predicate = equals_any(PARTITION_COLUMN, _days(files)) if self.spec.partitions else None
        return self.lake.replace(bronze_table(self.spec), good, predicate, note={FACTORY_TIME: now.isoformat()})

    def _replace_days(self, table: TableSpec, rows: pa.Table, files: Sequence[LandedFile]) -> None:
        days = equals_any(PARTITION_COLUMN, _days(files))
        if rows.num_rows or self.lake.find(table.name) is not None:
            self.lake.replace(table, rows, f"source = {literal(self.spec.name)} and ({days})")

    def _record(self, files: Sequence[LandedFile], now: datetime) -> pa.Table:
        rows = [
            {
                "source": self.spec.name,
                PARTITION_COLUMN: _day(file),
                "file": file.name,
                "sha256": file.sha256,
                "contract": _fingerprint(self.spec),
                "ingested_at_utc": now,
            }
            for file in files
        ]
        return pa.Table.from_pylist(rows, schema=INGESTED_FILES.schema)

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


def _reason_sql(name: str, column: ColumnContract) -> str:
    """SQL for the reason why a row fails this column's contract, NULL when it passes."""
    raw = f"raw.{quote_identifier(name)}"
    value = f"try_cast({raw} as {_DUCKDB_TYPES[column.type]})"
    label = literal(f"{name}: ")
    cases = [f"when {raw} is not null and {value} is null then {label} || {raw}::varchar || ' is not {column.type}'"]
    if column.required:
        cases.append(f"when {raw} is null then {label} || 'is missing'")
    if column.minimum is not None:
        cases.append(f"when {value} < {literal(column.minimum)} then {label} || {raw}::varchar || ' is too small'")
    if column.maximum is not None:
        cases.append(f"when {value} > {literal(column.maximum)} then {label} || {raw}::varchar || ' is too large'")
    if column.allowed:
        allowed = ", ".join(literal(value) for value in column.allowed)
        cases.append(f"when {raw} not in ({allowed}) then {label} || {raw} || ' is not an allowed value'")
    return f"case {' '.join(cases)} end"


def _fingerprint(spec: SourceSpec) -> str:
    """What decides how a file is read, as one hash."""
    rules = spec.model_dump_json(include={"format", "null_values", "keys", "columns", "partitions"})
    return hashlib.sha256(rules.encode()).hexdigest()


def _fingerprint_files(files: Sequence[LandedFile], day: date | None) -> str:
    """The files of one day, as one hash."""
    return fingerprint_files([file for file in files if _day(file) == day])


def _without_days(rows: pa.Table, days: Collection[date | None], dated: bool) -> pa.Table:
    if not days or rows.num_rows == 0:
        return rows
    if not dated:
        return rows.slice(0, 0)
    return rows.filter(pa.array([day not in days for day in rows.column(PARTITION_COLUMN).to_pylist()], pa.bool_()))


def _day(file: LandedFile) -> date | None:
    return date.fromisoformat(file.partition) if file.partition else None


def _days(files: Sequence[LandedFile]) -> list[date | None]:
    return sorted({_day(file) for file in files}, key=str)
