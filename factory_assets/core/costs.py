"""The arithmetic of costs: differences of samples, shares of segments, and a price."""

from collections.abc import Mapping
from dataclasses import replace

from factory_assets.contracts.costs import ProcessSample, Usage


def usage_between(
    before: ProcessSample, after: ProcessSample, overhead_since: ProcessSample, peak_memory_bytes: int
) -> Usage:
    """What was used from `before` to `after`; the overhead is what was used from `overhead_since` to `before`."""
    return Usage(
        cpu_seconds=max(after.cpu_seconds - before.cpu_seconds, 0.0),
        overhead_cpu_seconds=max(before.cpu_seconds - overhead_since.cpu_seconds, 0.0),
        wall_seconds=after.wall_seconds - before.wall_seconds,
        peak_memory_bytes=peak_memory_bytes,
        bytes_read=max(after.bytes_read - before.bytes_read, 0),
        bytes_written=max(after.bytes_written - before.bytes_written, 0),
    )


def share_by_segment(usage: Usage, own_cpu_seconds: Mapping[str, float]) -> dict[str, Usage]:
    """Splits a usage: to each segment the CPU of its own fit, and of all the rest an equal share.

    The shares add up to the whole. Peak memory is no sum, so each segment shows the peak of the work it was part of. When
    the fits claim more than was used (clocks differ a little), they are scaled down to it.

    >>> whole = Usage(10.0, 2.0, 5.0, 100, 30, 0)
    >>> {name: share.cpu_seconds for name, share in share_by_segment(whole, {"a": 6.0, "b": 2.0}).items()}
    {'a': 7.0, 'b': 3.0}
    """
    if not own_cpu_seconds:
        return {"all": usage}
    claimed = sum(own_cpu_seconds.values())
    scale = min(1.0, usage.cpu_seconds / claimed) if claimed > 0 else 0.0
    rest = max(usage.cpu_seconds - claimed * scale, 0.0)
    count = len(own_cpu_seconds)
    shares = {}
    for position, (segment, own) in enumerate(own_cpu_seconds.items()):
        shares[segment] = replace(
            usage,
            cpu_seconds=own * scale + rest / count,
            overhead_cpu_seconds=usage.overhead_cpu_seconds / count,
            wall_seconds=usage.wall_seconds / count,
            bytes_read=_share(usage.bytes_read, count, position),
            bytes_written=_share(usage.bytes_written, count, position),
        )
    return shares


def price_of(usage: Usage, price_per_cpu_hour: float) -> float:
    """The price of the CPU time, overhead included.

    >>> price_of(Usage(1800.0, 1800.0, 1.0, 0, 0, 0), 0.05)
    0.05
    """
    return (usage.cpu_seconds + usage.overhead_cpu_seconds) / 3600 * price_per_cpu_hour


def _share(whole: int, count: int, position: int) -> int:
    """The whole numbers of all positions add up to `whole`."""
    return whole // count + (position < whole % count)
