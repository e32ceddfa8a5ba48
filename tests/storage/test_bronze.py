from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from factory_assets.contracts.source import ColumnContract, SourceSpec
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.landing import find_files
from factory_assets.storage.tables.bronze import QUARANTINE, BronzeWriter, HeldDaysError

NOW = datetime(2013, 1, 10, tzinfo=UTC)
DAYS = ["2013-01-01", "2013-01-02"]
SPEC = SourceSpec(
    name="readings",
    landing="readings/{partition}*.csv",
    partitions="daily",
    null_values=("", "NA"),
    keys=("id",),
    columns={
        "id": ColumnContract(type="bigint", required=True),
        "place": ColumnContract(type="string", allowed=("it's", "b")),
        "celsius": ColumnContract(type="double", minimum=-90, maximum=60),
        "at": ColumnContract(type="timestamp"),
    },
    max_quarantined_share=0.5,
)


@pytest.fixture
def land(tmp_path: Path) -> Callable[..., None]:
    def write(name: str, *rows: str, header: str = "id,place,celsius,at") -> None:
        path = tmp_path / "landing" / "readings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([header, *rows]) + "\n")

    return write


@pytest.fixture
def ingest(tmp_path: Path) -> Callable[..., object]:
    lake = Lake(str(tmp_path / "lake"))

    def run(days: list[str] | None = None) -> object:
        return BronzeWriter(lake, SPEC).ingest(find_files(tmp_path / "landing", SPEC, days or DAYS), NOW)

    return run


def rows(tmp_path: Path, columns: str = "id, celsius") -> list[tuple[object, ...]]:
    lake = Lake(str(tmp_path / "lake"))
    found = lake.query(f"select {columns} from t order by id", t=lake.pin("bronze/readings")).to_pylist()
    return [tuple(row.values()) for row in found]


def test_rows_come_out_typed_and_nulls_stay_null(tmp_path, land, ingest) -> None:
    land("2013-01-01.csv", "1,it's,20.5,2013-01-01T10:00:00Z", "2,NA,NA,NA")
    ingest()
    assert rows(tmp_path, 'id, place, celsius, "at"') == [
        (1, "it's", 20.5, datetime(2013, 1, 1, 10, tzinfo=UTC)),
        (2, None, None, None),
    ]


def test_the_same_files_twice_change_nothing(tmp_path, land, ingest) -> None:
    land("2013-01-01.csv", "1,b,20,NA")
    first = ingest()
    again = ingest()
    assert (again.version, again.unchanged_files, again.rows) == (None, 1, 0)
    assert Lake(str(tmp_path / "lake")).pin("bronze/readings").version == first.version


def test_a_late_file_of_a_closed_day_lands_once_and_corrects_its_rows(tmp_path, land, ingest) -> None:
    land("2013-01-01.csv", "1,b,NA,NA", "2,b,7,NA")
    land("2013-01-02.csv", "3,b,3,NA")
    ingest()
    land("2013-01-01.late.csv", "1,b,20,NA")
    report = ingest()
    assert report.partitions == ("2013-01-01",)
    assert rows(tmp_path) == [(1, 20.0), (2, 7.0), (3, 3.0)]
    assert ingest().version is None


def test_a_changed_file_replaces_its_day_and_no_other(tmp_path, land, ingest) -> None:
    land("2013-01-01.csv", "1,b,1,NA", "2,b,2,NA")
    land("2013-01-02.csv", "3,b,3,NA")
    ingest()
    land("2013-01-01.csv", "1,b,10,NA")
    ingest()
    assert rows(tmp_path) == [(1, 10.0), (3, 3.0)]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("x,b,1,NA", "id: x is not bigint"),
        ("NA,b,1,NA", "id: is missing"),
        ("9,c,1,NA", "place: c is not an allowed value"),
        ("9,b,61,NA", "celsius: 61 is too large"),
        ("9,b,-91,NA", "celsius: -91 is too small"),
        ("9,b,1,yesterday", "at: yesterday is not timestamp"),
        ("9,c,61,NA", "place: c is not an allowed value; celsius: 61 is too large"),
    ],
)
def test_a_bad_row_is_quarantined_with_its_reason_and_its_text(tmp_path, land, ingest, bad: str, reason: str) -> None:
    land("2013-01-01.csv", "1,b,20,NA", bad)
    assert ingest().quarantined == 1
    held = Lake(str(tmp_path / "lake")).rows(QUARANTINE)
    assert [(row["reason"], row["file"]) for row in held] == [(reason, "readings/2013-01-01.csv")]
    assert rows(tmp_path) == [(1, 20.0)]


def test_quarantine_empties_when_the_file_is_mended(tmp_path, land, ingest) -> None:
    land("2013-01-01.csv", "1,b,20,NA", "x,b,1,NA")
    ingest()
    land("2013-01-01.csv", "1,b,20,NA", "2,b,1,NA")
    ingest()
    assert Lake(str(tmp_path / "lake")).rows(QUARANTINE) == []


def test_a_day_with_too_many_bad_rows_is_held_and_the_others_go_in(tmp_path, land, ingest) -> None:
    land("2013-01-01.csv", "1,b,1,NA")
    ingest()
    land("2013-01-01.csv", "x,b,1,NA", "y,b,1,NA", "1,b,5,NA")
    land("2013-01-02.csv", "3,b,3,NA")
    with pytest.raises(HeldDaysError, match="2 of 3 rows, mostly: id: "):
        ingest()
    assert rows(tmp_path) == [(1, 1.0), (3, 3.0)]
    with pytest.raises(HeldDaysError):
        ingest()


def test_files_of_different_layout_are_read_by_column_name(tmp_path, land, ingest) -> None:
    land("2013-01-01.csv", "1,b,1,NA")
    land("2013-01-02.csv", "NA,3,b,2", header="at,celsius,place,id")
    ingest()
    assert rows(tmp_path) == [(1, 1.0), (2, 3.0)]


def test_a_file_without_a_declared_column_holds_its_day_and_no_other(tmp_path, land, ingest) -> None:
    land("2013-01-01.csv", "1,b,1", header="id,place,kelvin")
    land("2013-01-02.csv", "3,b,3,NA")
    with pytest.raises(HeldDaysError, match=r"readings/2013-01-01.csv lacks column celsius, at"):
        ingest()
    assert rows(tmp_path) == [(3, 3.0)]


def test_a_missing_day_is_no_error(ingest) -> None:
    assert ingest(["2013-05-05"]).files == 0


def test_killed_before_the_record_is_written_the_day_is_done_again(tmp_path, land, ingest) -> None:
    land("2013-01-01.csv", "1,b,20,NA", "x,b,1,NA")
    ingest()
    lake = Lake(str(tmp_path / "lake"))
    from factory_assets.storage.tables.ingested_files import INGESTED_FILES

    lake.replace(INGESTED_FILES, INGESTED_FILES.schema.empty_table())
    ingest()
    assert rows(tmp_path) == [(1, 20.0)]
    assert len(lake.rows(QUARANTINE)) == 1


def test_a_changed_contract_judges_the_same_files_again(tmp_path, land, ingest) -> None:
    land("2013-01-01.csv", "1,b,20,NA", "2,b,70,NA")
    assert ingest().quarantined == 1
    wider = SPEC.model_copy(
        update={"columns": {**SPEC.columns, "celsius": ColumnContract(type="double", minimum=-90, maximum=100)}}
    )
    lake = Lake(str(tmp_path / "lake"))
    report = BronzeWriter(lake, wider).ingest(find_files(tmp_path / "landing", wider, DAYS), NOW)
    assert (report.rows, report.quarantined) == (2, 0)
    assert lake.rows(QUARANTINE) == []
