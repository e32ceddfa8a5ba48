"""Broken days of a small hourly feed, through the real ingestion: held, told, repaired, accepted."""

import csv
import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from factory_assets.contracts.incidents import Incident
from factory_assets.contracts.source import SourceSpec
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.landing import find_files
from factory_assets.storage.tables.batch_profiles import BATCH_PROFILES
from factory_assets.storage.tables.bronze import BronzeWriter, HeldDaysError, IngestReport
from factory_assets.storage.tables.incidents import Incidents, NothingHeldError

START = date(2013, 3, 4)
DAYS = 15
TODAY = START + timedelta(days=DAYS)
NOW = datetime(2013, 3, 20, 14, tzinfo=UTC)
Row = dict[str, Any]
SOURCE: dict[str, Any] = {
    "name": "readings",
    "landing": "readings/{partition}*.csv",
    "partitions": "daily",
    "keys": ["place", "at"],
    "event_time": "at",
    "columns": {
        "place": {"type": "string", "required": True},
        "at": {"type": "timestamp", "required": True},
        "kind": {"type": "string"},
        "temp": {"type": "double"},
        "dew": {"type": "double"},
        "load": {"type": "double"},
        "visits": {"type": "bigint"},
    },
}


def a_day(day: date, seed: int | None = None) -> list[Row]:
    """72 rows: three places, 24 hours; dew lies below temp, visits follow the hour."""
    chance = random.Random(seed if seed is not None else day.toordinal())
    rows = []
    for place in ("a", "b", "c"):
        for hour in range(24):
            temp = 10 + chance.gauss(0, 3)
            rows.append(
                {
                    "place": place,
                    "at": datetime(day.year, day.month, day.day, hour, tzinfo=UTC).isoformat(),
                    "kind": chance.choice(("sun", "rain", "snow")),
                    "temp": round(temp, 2),
                    "dew": round(temp - 2 - abs(chance.gauss(0, 1)), 2),
                    "load": round(chance.uniform(40, 60), 2),
                    "visits": 100 * hour + chance.randrange(60),
                }
            )
    return rows


class Feed:
    """A landing folder, a lake, and the days in between."""

    def __init__(self, root: Path, **incidents: Any) -> None:
        self.root = root
        self.lake = Lake(str(root / "lake"))
        self.spec = SourceSpec.model_validate({**SOURCE, "incidents": incidents})

    def land(self, day: date, rows: list[Row], suffix: str = "") -> None:
        path = self.root / "landing" / "readings" / f"{day}{suffix}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, list(rows[0]) if rows else list(SOURCE["columns"]))
            writer.writeheader()
            writer.writerows(rows)

    def ingest(self, first: date = START, last: date = TODAY) -> IngestReport:
        days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
        files = find_files(self.root / "landing", self.spec, [str(day) for day in days])
        return BronzeWriter(self.lake, self.spec).ingest(files, NOW, days)

    def fail(self) -> Incident:
        with pytest.raises(HeldDaysError) as raised:
            self.ingest(TODAY, TODAY)
        (incident,) = raised.value.report.held
        return incident

    def rows_of(self, day: date = TODAY) -> int:
        found = self.lake.query(
            "select count(*) as n from t where partition_date = ?", [day], t=self.lake.pin("bronze/readings")
        )
        return int(found.column("n")[0].as_py())


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifteen sound days, ingested once."""
    root = tmp_path_factory.mktemp("feed")
    feed = Feed(root)
    for n in range(DAYS):
        feed.land(START + timedelta(days=n), a_day(START + timedelta(days=n)))
    feed.ingest(START, TODAY - timedelta(days=1))
    return root


@pytest.fixture
def feed(past: Path, tmp_path: Path) -> Feed:
    from shutil import copytree

    copytree(past, tmp_path / "feed")
    return Feed(tmp_path / "feed")


def changed(rows: list[Row], column: str, change: Callable[[Any], Any], every: int = 1) -> list[Row]:
    return [{**row, column: change(row[column])} if i % every == 0 else row for i, row in enumerate(rows)]


def swapped(rows: list[Row], one: str, other: str) -> list[Row]:
    return [{**row, one: row[other], other: row[one]} for row in rows]


def later(rows: list[Row], **by: int) -> list[Row]:
    return changed(rows, "at", lambda at: (datetime.fromisoformat(at) + timedelta(**by)).isoformat())


def renamed(rows: list[Row]) -> list[Row]:
    return [{("celsius" if name == "temp" else name): value for name, value in row.items()} for row in rows]


BROKEN: dict[str, tuple[Callable[[list[Row]], list[Row]], str, str]] = {
    "a column is emptied": (lambda rows: changed(rows, "temp", lambda _: ""), "null_burst", "temp"),
    "a third of a column is emptied": (lambda rows: changed(rows, "temp", lambda _: "", every=3), "null_burst", "temp"),
    "another unit": (lambda rows: changed(rows, "load", lambda v: v * 1000), "unit_change", "load"),
    "another unit in a third": (lambda rows: changed(rows, "load", lambda v: v * 1000, every=3), "unit_change", "load"),
    "a smaller unit": (lambda rows: changed(rows, "load", lambda v: v / 1000), "unit_change", "load"),
    "half of the rows": (lambda rows: rows[::2], "half_batch", ""),
    "no rows": (lambda rows: [], "half_batch", ""),
    "every row twice": (lambda rows: rows + rows, "double_load", ""),
    "twice under new keys": (lambda rows: rows + later(rows, minutes=30), "double_load", ""),
    "yesterday's rows": (lambda rows: later(a_day(TODAY - timedelta(days=1)), days=1), "frozen_feed", ""),
    "rows of last week": (lambda rows: later(a_day(TODAY - timedelta(days=7)), days=7), "frozen_feed", ""),
    "a column renamed": (renamed, "schema_change", "temp"),
    "a column of another type": (lambda rows: changed(rows, "visits", lambda v: f"n{v}"), "schema_change", "visits"),
    "swapped numbers in a known order": (lambda rows: swapped(rows, "temp", "dew"), "swapped_columns", "temp"),
    "swapped numbers": (lambda rows: swapped(rows, "temp", "load"), "swapped_columns", "temp"),
    "swapped texts": (lambda rows: swapped(rows, "place", "kind"), "swapped_columns", "place"),
    "a sensor stuck at one place": (
        lambda rows: [{**row, "temp": 11.5} if row["place"] == "b" else row for row in rows],
        "stuck_value",
        "temp",
    ),
    "an error code": (lambda rows: changed(rows, "load", lambda _: -999, every=2), "stuck_value", "load"),
    "local time for UTC": (lambda rows: later(rows, hours=5), "timezone_shift", ""),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_day_is_held_and_told_by_kind_and_column(case: str, feed: Feed) -> None:
    break_it, kind, column = BROKEN[case]
    feed.land(TODAY, break_it(a_day(TODAY)))
    incident = feed.fail()
    assert (incident.kind, incident.findings[0].column, incident.day) == (kind, column, TODAY), incident.summary
    assert incident.findings[0].expected
    assert incident.findings[0].found
    assert feed.rows_of() == 0
    assert feed.rows_of(TODAY - timedelta(days=1)) == 72


GENUINE: dict[str, Callable[[list[Row]], list[Row]]] = {
    "an ordinary day": lambda rows: rows,
    "a warm day": lambda rows: [{**row, "temp": row["temp"] + 8, "dew": row["dew"] + 8} for row in rows],
    "a busy day": lambda rows: changed(rows, "visits", lambda v: round(v * 1.8)),
    "another mix": lambda rows: changed(rows, "kind", lambda _: "rain", every=2),
    "a few rows short": lambda rows: rows[:60],
    "some values missing": lambda rows: changed(rows, "temp", lambda _: "", every=12),
    "one wild value": lambda rows: [{**rows[0], "load": 1048.4}, *rows[1:]],
}


@pytest.mark.parametrize("case", GENUINE)
def test_a_genuine_change_goes_through(case: str, feed: Feed) -> None:
    rows = GENUINE[case](a_day(TODAY))
    feed.land(TODAY, rows)
    assert feed.ingest(TODAY, TODAY).held == ()
    assert feed.rows_of() == len(rows)


def test_the_mended_file_ends_the_incident_and_nothing_was_lost(feed: Feed) -> None:
    feed.land(TODAY, a_day(TODAY)[:20])
    incident = feed.fail()
    assert (feed.root / "landing" / "readings" / f"{TODAY}.csv").is_file()
    assert feed.fail().opened_at_utc == incident.opened_at_utc
    feed.land(TODAY, a_day(TODAY))
    (ended,) = feed.ingest(TODAY, TODAY).ended
    assert (ended.state, ended.kind) == ("repaired", "half_batch")
    assert Incidents(feed.lake).read_open() == []
    assert feed.rows_of() == 72


def test_a_broken_file_on_top_of_a_good_day_leaves_readers_what_they_had(feed: Feed) -> None:
    feed.land(TODAY, a_day(TODAY))
    feed.ingest(TODAY, TODAY)
    feed.land(TODAY, a_day(TODAY)[:20])
    feed.fail()
    assert feed.rows_of() == 72


def test_the_file_that_was_in_before_ends_the_incident_when_it_is_put_back(feed: Feed) -> None:
    feed.land(TODAY, a_day(TODAY))
    feed.ingest(TODAY, TODAY)
    feed.land(TODAY, a_day(TODAY)[:20])
    feed.fail()
    feed.land(TODAY, a_day(TODAY))
    (ended,) = feed.ingest(TODAY, TODAY).ended
    assert (ended.state, feed.rows_of()) == ("repaired", 72)
    assert feed.ingest(TODAY, TODAY).version is None


def test_a_broken_late_file_that_is_taken_away_again_ends_the_incident(feed: Feed) -> None:
    feed.land(TODAY, a_day(TODAY))
    feed.ingest(TODAY, TODAY)
    (feed.root / "landing" / "readings" / f"{TODAY}.late.csv").write_text("no,such,columns\n")
    feed.fail()
    (feed.root / "landing" / "readings" / f"{TODAY}.late.csv").unlink()
    assert [incident.state for incident in feed.ingest(TODAY, TODAY).ended] == ["repaired"]
    assert feed.rows_of() == 72


def test_a_held_day_is_no_history_of_the_next(feed: Feed) -> None:
    for n in range(3):
        feed.land(TODAY + timedelta(days=n), changed(a_day(TODAY + timedelta(days=n)), "load", lambda v: v * 1000))
    with pytest.raises(HeldDaysError) as raised:
        feed.ingest(TODAY, TODAY + timedelta(days=2))
    assert [incident.kind for incident in raised.value.report.held] == ["unit_change"] * 3
    evidence = feed.lake.rows(BATCH_PROFILES, "not published and \"column\" = 'load'")
    assert [row["partition_date"] for row in evidence] == [TODAY + timedelta(days=n) for n in range(3)]


def test_an_accepted_day_is_published_and_a_later_file_of_it_too(feed: Feed) -> None:
    feed.land(TODAY, a_day(TODAY)[::2])
    feed.fail()
    Incidents(feed.lake).accept("readings", TODAY, "a holiday")
    (ended,) = feed.ingest(TODAY, TODAY).ended
    assert (ended.state, ended.note, feed.rows_of()) == ("published", "a holiday", 36)
    feed.land(TODAY, a_day(TODAY)[1:4:2], ".late")
    assert feed.ingest(TODAY, TODAY).held == ()
    assert feed.rows_of() == 38


def test_acceptance_is_of_what_was_seen_and_of_nothing_worse(feed: Feed) -> None:
    feed.land(TODAY, a_day(TODAY)[::2])
    feed.fail()
    Incidents(feed.lake).accept("readings", TODAY, "")
    feed.land(TODAY, changed(a_day(TODAY)[::2], "load", lambda v: v * 1000))
    assert {finding.kind for finding in feed.fail().findings} == {"unit_change"}


def test_only_a_held_day_can_be_accepted(feed: Feed) -> None:
    with pytest.raises(NothingHeldError, match="no day of a source of that name is held"):
        Incidents(feed.lake).accept("readings", TODAY, "")
    feed.fail()
    with pytest.raises(NothingHeldError, match="land one"):
        Incidents(feed.lake).accept("readings", TODAY, "")


def test_a_missing_day_is_an_incident_until_its_file_lands(feed: Feed) -> None:
    assert feed.fail().kind == "late_partition"
    feed.land(TODAY, a_day(TODAY))
    (ended,) = feed.ingest(TODAY, TODAY).ended
    assert (ended.kind, ended.state) == ("late_partition", "repaired")


def test_an_unreadable_file_holds_its_day_and_no_other(feed: Feed) -> None:
    feed.land(TODAY, a_day(TODAY))
    (feed.root / "landing" / "readings" / f"{TODAY}.csv").write_bytes(b"\xff\xfe\x00broken")
    feed.land(TODAY + timedelta(days=1), a_day(TODAY + timedelta(days=1)))
    with pytest.raises(HeldDaysError) as raised:
        feed.ingest(TODAY, TODAY + timedelta(days=1))
    assert [incident.kind for incident in raised.value.report.held] == ["schema_change"]
    assert (feed.rows_of(), feed.rows_of(TODAY + timedelta(days=1))) == (0, 72)


# --- Each key of the declaration changes the verdict ---


@pytest.mark.parametrize(
    ("keys", "rows"),
    [
        ({"tolerate": ["half_batch"]}, a_day(TODAY)[::2]),
        ({"least_volume": 0.4}, a_day(TODAY)[::2]),
        ({"most_volume": 3}, a_day(TODAY) + later(a_day(TODAY), minutes=30)),
        ({"null_jump": 0.4}, changed(a_day(TODAY), "temp", lambda _: "", every=3)),
        ({"min_days": 16}, a_day(TODAY)[::2]),
        ({"history": "6d"}, a_day(TODAY)[::2]),
        ({"min_rows": 80}, a_day(TODAY)[::2]),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_key_lets_through_what_is_held_without_it(keys: dict[str, Any], rows: list[Row], feed: Feed) -> None:
    feed.land(TODAY, rows)
    feed.fail()
    assert Feed(feed.root, **keys).ingest(TODAY, TODAY).held == ()


def test_a_late_partition_can_be_tolerated(feed: Feed) -> None:
    assert Feed(feed.root, tolerate=["late_partition"]).ingest(TODAY, TODAY).held == ()
