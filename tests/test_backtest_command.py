"""The command `factory backtest` over a project and a lake of its own."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from factory_assets.cli import app
from factory_assets.storage.delta.lake import UTC_TIMESTAMP, Lake, TableSpec

LINE = "departure_volume"
FIRST = datetime(2013, 1, 1, 5, tzinfo=UTC)
HOURS = 24 * 90


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of an installation with 90 days of one airport, for a line as this project declares it."""
    monkeypatch.setenv("FACTORY_DATA_DIR", str(tmp_path))
    start = [FIRST + timedelta(hours=hour) for hour in range(HOURS)]
    planned = np.arange(HOURS) % 24
    flown = planned - np.random.default_rng(1).poisson(1, HOURS)
    key = {"origin": ["JFK"] * HOURS, "hour_start_utc": pa.array(start, UTC_TIMESTAMP)}
    features = pa.table({**key, "scheduled_departures": pa.array(planned, pa.int64())})
    known = pa.array([hour + timedelta(hours=1) for hour in start], UTC_TIMESTAMP)
    labels = pa.table({**key, "actual_departures": pa.array(flown, pa.int64()), "hour_end_utc": known})
    lake = Lake(str(tmp_path / "lake"))
    for name, rows in (("features/feat_airport_hour", features), ("marts/fct_airport_hour", labels)):
        lake.replace(TableSpec(name, rows.schema, ("origin", "hour_start_utc")), rows)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["backtest", *arguments])


def test_it_prints_a_table_and_keeps_picture_and_report_and_nothing_else(lake: Path) -> None:
    before = set((lake).rglob("*"))
    done = run(LINE, "--policy", "never", "--policy", "own", "--from", "2013-02-20", "--until", "2013-03-28")
    assert done.exit_code == 0, done.output
    assert "first trained at the end of 2013-02-20" in " ".join(done.output.split())
    report = json.loads((lake / "backtests" / f"{LINE}.json").read_text())
    never, own = report["policies"]
    assert (never["policy"], own["policy"], never["difference"]["against"]) == ("never", "own", "own")
    assert [retrain["day"] for retrain in own["retrains"]] == ["2013-02-20", "2013-03-23"]
    assert report["last"] == "2013-03-28"
    assert Image.open(lake / "backtests" / f"{LINE}.png").format == "PNG"
    made = set((lake).rglob("*")) - before
    # What reading the declarations of the dbt project leaves is there after any command.
    kept = {path.name for path in made if "dbt" not in path.relative_to(lake).parts}
    assert kept == {"backtests", f"{LINE}.json", f"{LINE}.png"}


def test_another_folder_and_another_reference_can_be_chosen(lake: Path) -> None:
    arguments = ["--policy", "never", "--against", "weekly", "--until", "2013-03-10", "--out", str(lake / "out")]
    done = run(LINE, *arguments)
    assert done.exit_code == 0, done.output
    report = json.loads((lake / "out" / f"{LINE}.json").read_text())
    assert [(p["policy"], p["difference"] is None) for p in report["policies"]] == [("never", False), ("weekly", True)]
    assert not (lake / "backtests").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["departure_volumes"], "did you mean 'departure_volume'"),
        ([LINE, "--policy", "wekly"], "did you mean 'weekly'"),
        ([LINE, "--against", "sometimes"], "'sometimes' is not a policy"),
        ([LINE, "--from", "2014-01-01"], "the history goes from 2013-01-01 to 2013-04-01"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(lake: Path, arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 1
    assert said in " ".join(done.output.split())
    assert "Traceback" not in done.output


def test_an_installation_without_a_calendar_is_told_to_declare_one(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("factory_assets.installation.load_calendar", lambda settings: None)
    done = run(LINE)
    assert done.exit_code == 1
    assert "there is no sound calendar" in " ".join(done.output.split())
