from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from factory_assets.demo.flights import FlightData, open_flight_data
from factory_assets.demo.replay import Replay, landing_instant
from factory_assets.storage.clock import FactoryClock


@pytest.fixture(scope="module")
def data() -> FlightData:
    return open_flight_data()


def replay(data: FlightData, folder: Path) -> Replay:
    return Replay(data, folder / "landing", FactoryClock(folder / "clock.json"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_files_land_at_ten_new_york_time_in_winter_and_summer() -> None:
    assert landing_instant(date(2013, 1, 1)) == datetime(2013, 1, 2, 15, tzinfo=UTC)
    assert landing_instant(date(2013, 7, 1)) == datetime(2013, 7, 2, 14, tzinfo=UTC)


def test_landing_moves_the_clock_and_a_second_time_writes_the_same_bytes(data: FlightData, tmp_path: Path) -> None:
    played = replay(data, tmp_path)
    played.land(date(2013, 1, 1), date(2013, 1, 3))
    before = contents(tmp_path)
    played.land(date(2013, 1, 1), date(2013, 1, 3))
    assert contents(tmp_path) == before
    assert played.clock.now() == landing_instant(date(2013, 1, 3))


def test_no_outcome_lands_before_it_was_known_and_each_lands_in_the_end(data: FlightData, tmp_path: Path) -> None:
    first, last = date(2013, 1, 1), date(2013, 1, 20)
    replay(data, tmp_path).land(first, last)
    landed = data.connection.execute(
        "select count(*), count(arr_delay), count(distinct (time_hour, carrier, flight, origin, dest)) "
        "from read_csv(?, nullstr = 'NA', all_varchar = true)",
        [f"{tmp_path}/landing/flights/*.csv"],
    ).fetchone()
    truth = data.connection.execute(
        "select count(*), count(arr_delay) filter (arrival_known_at <= ?) from flights where flight_day between ? and ?",
        [landing_instant(last), first, last],
    ).fetchone()
    assert landed is not None
    assert truth is not None
    assert landed[2] == truth[0]
    assert landed[1] == truth[1]
    late_files = [path for path in (tmp_path / "landing" / "flights").iterdir() if ".late-" in path.name]
    assert late_files


def test_the_clock_is_the_wall_clock_where_nothing_is_replayed(tmp_path: Path) -> None:
    clock = FactoryClock(tmp_path / "clock.json")
    assert clock.replayed_instant() is None
    assert abs((clock.now() - datetime.now(UTC)).total_seconds()) < 3600
    with pytest.raises(ValueError, match="needs a time zone"):
        clock.set(datetime(2013, 1, 1))  # noqa: DTZ001
