"""What work costs: CPU, wall time, memory and bytes of a piece of work, and its share for a segment."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

WorkKind = Literal["source", "dbt", "training_set", "models", "predictions", "check", "paybacks"]


@dataclass(frozen=True)
class ProcessSample:
    """What a process and all that it ever started had used up at one instant; only differences mean anything.

    `cpu_seconds` are user and system time of the process, of children it waited for, and of living descendants. Bytes are
    those that passed through read and write calls, whether or not a disk was touched.
    """

    wall_seconds: float
    cpu_seconds: float
    bytes_read: int
    bytes_written: int


@dataclass(frozen=True)
class Usage:
    """What one piece of work took. `overhead_cpu_seconds` is what its process used since the piece of work before it.

    Start-up, imports and Dagster's own work are overhead, so that the sum over a process is all that it used.
    """

    cpu_seconds: float
    overhead_cpu_seconds: float
    wall_seconds: float
    peak_memory_bytes: int
    bytes_read: int
    bytes_written: int


@dataclass(frozen=True)
class Work:
    """A piece of work: one execution of an asset's or a check's body. `run_key` is the retrain request it served, if any."""

    run_id: str
    step: str
    kind: WorkKind
    asset: str
    line: str = ""
    run_key: str = ""


@dataclass(frozen=True)
class Cost:
    """What a piece of work took, for one segment (`all` without segments). `price` is in the unit of the setting."""

    work: Work
    segment: str
    usage: Usage
    price: float
    ended_at_utc: datetime
