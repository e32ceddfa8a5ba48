import pyarrow as pa
import pytest

SEGMENTS = [f"s{number}" for number in range(8)]


@pytest.fixture
def table() -> pa.Table:
    """Segment s<n> has n + 1 rows, of value n each."""
    rows = [(segment, float(number)) for number, segment in enumerate(SEGMENTS) for _ in range(number + 1)]
    return pa.table({"segment": [segment for segment, _ in rows], "value": [value for _, value in rows]})


@pytest.fixture
def sums() -> dict[str, float]:
    return {segment: float(number * (number + 1)) for number, segment in enumerate(SEGMENTS)}
