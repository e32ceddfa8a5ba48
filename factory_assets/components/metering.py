"""The meter around asset and check bodies: what they took goes to `ops/costs`, by line, segment and retrain request."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TypeVar

from factory_assets.components.naming import REQUEST_TAG
from factory_assets.contracts.costs import Cost, Work, WorkKind
from factory_assets.core.costs import price_of, share_by_segment
from factory_assets.settings import FactorySettings
from factory_assets.storage.metering import Meter, Reading
from factory_assets.storage.tables.costs import Costs

# One a process: the overhead of a piece of work is what lies between it and the one before.
_METER = Meter()
_READING: ContextVar[Reading | None] = ContextVar("reading", default=None)
Body = TypeVar("Body", bound=Callable[..., Any])


def metered(kind: WorkKind, asset: str, line: str = "") -> Callable[[Body], Body]:
    """Meters the body of an asset or check, which takes `context` and `lake`; its cost is recorded also when it fails."""

    def decorate(body: Body) -> Body:
        signature = inspect.signature(body)

        if inspect.isgeneratorfunction(body):

            @functools.wraps(body)
            def generate(*args: Any, **kwargs: Any) -> Iterator[Any]:
                with _measured(signature.bind(*args, **kwargs).arguments, kind, asset, line):
                    yield from body(*args, **kwargs)

            return generate  # type: ignore[return-value]

        @functools.wraps(body)
        def call(*args: Any, **kwargs: Any) -> Any:
            with _measured(signature.bind(*args, **kwargs).arguments, kind, asset, line):
                return body(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate


def note_segment_cpu(cpu_seconds: Mapping[str, float]) -> None:
    """Tells the meter, from within a metered body, the CPU seconds of each segment's own fit."""
    reading = _READING.get()
    if reading is not None:
        reading.own_cpu_seconds.update(cpu_seconds)


@contextmanager
def _measured(arguments: Mapping[str, Any], kind: WorkKind, asset: str, line: str) -> Iterator[None]:
    context, lake = arguments["context"], arguments["lake"]
    run = context.run
    record = context.instance.get_run_record_by_id(run.run_id)
    created_at = record.create_timestamp.timestamp() if record else float("inf")
    step = str(context.op_execution_context.op_handle)
    work = Work(run.run_id, step, kind, asset, line, run.tags.get(REQUEST_TAG, ""))
    reading = Reading()
    token = _READING.set(reading)
    try:
        with _METER.measure(run.run_id, created_at, reading):
            yield
    finally:
        _READING.reset(token)
        _record(lake, work, reading)


def _record(lake: Any, work: Work, reading: Reading) -> None:
    if reading.usage is None:
        return
    ended, price = datetime.now(UTC), FactorySettings().price_per_cpu_hour
    shares = share_by_segment(reading.usage, reading.own_cpu_seconds)
    costs = [Cost(work, segment, usage, price_of(usage, price), ended) for segment, usage in shares.items()]
    Costs(lake.open()).record(costs)
