"""Feature rows rebuilt from data truncated at their own moment are byte for byte the rows of the full build.

What the world knew at a moment T is written down here once more, independently of the models: departures that had
happened, arrivals that were known, observations that were published, and the whole schedule.
"""

import shutil
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.bronze_fixture import DBT_PROJECT, complaints, read_all, read_rows, run_dbt, write_bronze

FIRST, LAST = date(2013, 1, 1), date(2013, 2, 10)
FEATURE_SETS = {
    "feat_flight_departure": (("flight_id",), "scheduled_departure_utc"),
    "feat_airport_hour": (("origin", "hour_start_utc"), "hour_start_utc"),
}
# The first is a full hour with departures, the second an odd minute of a busy evening, the third the first hour of a
# local day: the three ways in which a window could close one step too late.
MOMENTS = [
    datetime(2013, 2, 5, 20, 0, tzinfo=UTC),
    datetime(2013, 1, 31, 22, 59, tzinfo=UTC),
    datetime(2013, 2, 8, 11, 0, tzinfo=UTC),
]


def _truncate(bronze: dict[str, pa.Table], moment: datetime) -> dict[str, pa.Table]:
    """Return what was known at `moment`."""
    with duckdb.connect() as connection:
        connection.execute("SET timezone = 'UTC'")
        for name, rows in bronze.items():
            connection.register(name, rows)
        known = dict(bronze)
        known["flights"] = connection.sql(
            """
            select
                * exclude (departed_at, arrival_known_at) replace (
                    case when departed_at <= $moment then dep_time end as dep_time,
                    case when departed_at <= $moment then dep_delay end as dep_delay,
                    case when arrival_known_at <= $moment then arr_time end as arr_time,
                    case when arrival_known_at <= $moment then arr_delay end as arr_delay,
                    case when arrival_known_at <= $moment then air_time end as air_time
                )
            from (
                select
                    *,
                    time_hour + (minute + dep_delay) * interval '1 minute' as departed_at,
                    departed_at + (air_time + 240) * interval '1 minute' as arrival_known_at
                from flights
            )
            """,
            params={"moment": moment},
        ).to_arrow_table()
        known["weather"] = connection.sql(
            "select * from weather where time_hour + interval '1 hour' <= $moment", params={"moment": moment}
        ).to_arrow_table()
    return known


def _differing_columns(left: pa.Table, right: pa.Table) -> dict[str, int]:
    """Return how many rows of each column differ in their bytes; nulls differ from values, and 0.0 from -0.0."""
    assert left.schema.equals(right.schema)
    assert left.num_rows == right.num_rows
    differing = {}
    for name in left.column_names:
        pairs = zip(_as_bytes(left.column(name)), _as_bytes(right.column(name)), strict=True)
        count = sum(before != after for before, after in pairs)
        if count:
            differing[name] = count
    return differing


def _as_bytes(column: pa.ChunkedArray) -> list[object]:
    if not pa.types.is_floating(column.type):
        return list(column.to_pylist())
    values = pa.array(column.to_pylist(), pa.float64())
    bits = pa.Array.from_buffers(pa.int64(), len(values), values.buffers(), values.null_count)
    return list(bits.to_pylist())


def _rows_up_to(lake: Path, feature_set: str, moment: datetime) -> pa.Table:
    entity, as_of = FEATURE_SETS[feature_set]
    rows = read_rows(lake, f"features/{feature_set}", ", ".join(entity))
    return rows.filter(pc.less_equal(rows.column(as_of), pa.scalar(moment, pa.timestamp("us", "UTC"))))


def _build(lake: Path, work: Path, project: Path = DBT_PROJECT, select: Sequence[str] = ("+features",)) -> None:
    result = run_dbt(lake, work, ["run", "--vars", "{publish_unaudited: true}", "--select", *select], project)
    assert result.success, complaints(result)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def bronze() -> dict[str, pa.Table]:
    return read_all(FIRST, LAST)


@pytest.fixture(scope="module")
def full_lake(bronze: dict[str, pa.Table], work: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = tmp_path_factory.mktemp("full")
    write_bronze(lake, bronze)
    _build(lake, work)
    return lake


@pytest.fixture(scope="module", params=MOMENTS, ids=[f"{moment:%m-%dT%H:%M}" for moment in MOMENTS])
def truncated(
    request: pytest.FixtureRequest, bronze: dict[str, pa.Table], work: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[datetime, Path]:
    """A moment, and a fresh lake built from nothing but what was known then."""
    moment: datetime = request.param
    lake = tmp_path_factory.mktemp("truncated")
    write_bronze(lake, _truncate(bronze, moment))
    _build(lake, work)
    return moment, lake


@pytest.mark.parametrize("feature_set", FEATURE_SETS)
def test_rows_up_to_a_moment_are_the_same_bytes_when_nothing_later_exists(
    feature_set: str, truncated: tuple[datetime, Path], full_lake: Path
) -> None:
    moment, lake = truncated
    full, rebuilt = _rows_up_to(full_lake, feature_set, moment), _rows_up_to(lake, feature_set, moment)
    assert _differing_columns(full, rebuilt) == {}
    assert full.num_rows > 2_000


@pytest.mark.parametrize("feature_set", FEATURE_SETS)
def test_the_moments_have_rows_of_their_own(feature_set: str, full_lake: Path) -> None:
    as_of = FEATURE_SETS[feature_set][1]
    instants = set(_rows_up_to(full_lake, feature_set, MOMENTS[0]).column(as_of).to_pylist())
    assert MOMENTS[0] in instants


def test_truncating_takes_something_away(bronze: dict[str, pa.Table]) -> None:
    for moment in MOMENTS:
        known = _truncate(bronze, moment)
        assert known["flights"].num_rows == bronze["flights"].num_rows
        assert known["flights"].schema.equals(bronze["flights"].schema)
        assert known["flights"].column("dep_delay").null_count > bronze["flights"].column("dep_delay").null_count
        assert known["flights"].column("arr_delay").null_count > known["flights"].column("dep_delay").null_count
        assert known["weather"].num_rows < bronze["weather"].num_rows


LEAKS = {
    "departures of the hour under way": (
        "hours.hour_start_utc - interval '1 hour' = previous",
        "hours.hour_start_utc = previous",
        {"origin_departures_last_2h", "origin_departure_delay_last_2h_minutes"},
    ),
    "outcomes of the day itself": (
        "carrier_days.flight_date - 1",
        "carrier_days.flight_date",
        {"carrier_late_share_28d"},
    ),
    "weather not yet published": (
        "weather.usable_from_utc",
        "weather.observed_at_utc",
        {"temperature_fahrenheit", "weather_age_hours"},
    ),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_model_that_looks_ahead_is_found_out(
    leak: str, full_lake: Path, bronze: dict[str, pa.Table], work: Path, tmp_path: Path
) -> None:
    moment = MOMENTS[0]
    right, wrong, columns = LEAKS[leak]
    project = tmp_path / "dbt_project"
    shutil.copytree(DBT_PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    model = project / "models" / "features" / "feat_flight_departure.sql"
    assert right in model.read_text()
    model.write_text(model.read_text().replace(right, wrong))
    properties = model.with_suffix(".yml")
    properties.write_text(properties.read_text().replace("weather_age_hours >= 1", "weather_age_hours >= 0"))

    full = Path(shutil.copytree(full_lake, tmp_path / "full"))
    known = tmp_path / "known"
    write_bronze(known, _truncate(bronze, moment))
    _build(known, work / leak, project, ["+feat_flight_departure"])
    _build(full, work / leak, project, ["feat_flight_departure"])
    found = _differing_columns(
        _rows_up_to(full, "feat_flight_departure", moment), _rows_up_to(known, "feat_flight_departure", moment)
    )
    assert columns <= set(found)


def test_the_comparison_sees_one_changed_bit_a_lost_value_and_a_sign_of_zero() -> None:
    smallest = 5e-324
    before = pa.table({"x": [1.0, 0.0, 2.0], "s": ["a", None, "c"]})
    after = pa.table({"x": [1.0, smallest, 2.0], "s": ["a", "", "c"]})
    assert _differing_columns(before, after) == {"x": 1, "s": 1}
    assert _differing_columns(before, pa.table({"x": [1.0, -0.0, None], "s": ["a", None, "c"]})) == {"x": 2}
    assert _differing_columns(before, before) == {}


def test_the_same_data_built_twice_gives_the_same_bytes(
    full_lake: Path, bronze: dict[str, pa.Table], work: Path, tmp_path: Path
) -> None:
    shuffled = {name: rows.take(pa.array(reversed(range(rows.num_rows)))) for name, rows in bronze.items()}
    write_bronze(tmp_path, shuffled)
    _build(tmp_path, work)
    moment = datetime(2014, 1, 1, tzinfo=UTC) + timedelta(days=1)
    for feature_set in FEATURE_SETS:
        first, second = _rows_up_to(full_lake, feature_set, moment), _rows_up_to(tmp_path, feature_set, moment)
        assert _differing_columns(first, second) == {}
