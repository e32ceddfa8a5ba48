"""The landing folder: which raw files belong to which day, and what is inside them before any contract is applied."""

import csv
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from factory_assets.contracts.source import SourceSpec


class LandingFileError(ValueError):
    """A raw file cannot be used at all; the message names the file and the remedy, `columns` what it lacks."""

    def __init__(self, message: str, columns: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.columns = tuple(columns)


@dataclass(frozen=True)
class LandedFile:
    """One raw file: its path below the landing folder, the day it belongs to (None: no days), and its content hash."""

    path: Path
    name: str
    partition: str | None
    sha256: str

    @property
    def day(self) -> date | None:
        """The day that it belongs to; None of a source without days."""
        return date.fromisoformat(self.partition) if self.partition else None


def days_of(files: Iterable[LandedFile]) -> list[date | None]:
    """The days that files belong to, each once, in their order."""
    return sorted({file.day for file in files}, key=str)


def find_files(landing: Path, spec: SourceSpec, partitions: Iterable[str]) -> list[LandedFile]:
    """Files of the source for the given days (ISO dates; ignored by a source without days), in name order."""
    wanted: list[str | None] = list(partitions) if spec.partitions else [None]
    found = []
    for partition in wanted:
        pattern = spec.landing.replace("{partition}", partition or "")
        for path in sorted(landing.glob(pattern)):
            if path.is_file() and not path.name.startswith("."):
                sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
                found.append(LandedFile(path, path.relative_to(landing).as_posix(), partition, sha256))
    return found


def fingerprint_files(files: Iterable[LandedFile]) -> str:
    """Names and contents of files, in whatever order, as one hash."""
    listed = sorted(f"{file.name} {file.sha256}" for file in files)
    return hashlib.sha256("\n".join(listed).encode()).hexdigest()


def check_columns(spec: SourceSpec, file: LandedFile) -> tuple[str, ...]:
    """The file's column names; every declared one must be there, and those nobody declared are left out of the table.

    Raises:
        LandingFileError: naming the file and the missing columns.
    """
    try:
        present = _read_column_names(spec, file.path)
    except (OSError, ValueError, UnicodeDecodeError, duckdb.Error) as error:
        raise LandingFileError(f"{file.name} cannot be read as {spec.format}: {error}. Land it again, whole.") from error
    missing = [column for column in spec.columns if column not in present]
    if missing:
        raise LandingFileError(
            f"{file.name} lacks column {', '.join(missing)} (it has: {', '.join(present) or 'none'}). "
            f"Land it again, or take the column out of the contract of source {spec.name!r}.",
            missing,
        )
    return tuple(present)


def _read_column_names(spec: SourceSpec, path: Path) -> list[str]:
    if spec.format == "parquet":
        return list(pq.read_schema(path).names)
    if spec.format == "json":
        with duckdb.connect() as connection:
            described = connection.execute("describe select * from read_json(?)", [str(path)]).fetchall()
            return [str(row[0]) for row in described]
    with path.open(encoding="utf-8", newline="") as handle:
        return next(csv.reader(handle), [])
