from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.tables.check_results import CHECK_RESULTS, CheckResults


def record(lake: Lake, check: str, day: int, rows: int) -> None:
    moment = datetime(2013, 3, day, tzinfo=UTC)
    CheckResults(lake).record(
        "o'hare",
        check,
        champion_version=1,
        data_as_of_utc=moment,
        evaluated_at_utc=moment,
        passed=True,
        summary="",
        numbers={"rows": rows},
        run_id="run",
    )


def test_judging_the_same_thing_again_replaces_its_verdict_alone(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    record(lake, "quality", 1, 10)
    record(lake, "quality", 2, 20)
    record(lake, "skew", 2, 30)
    record(lake, "quality", 2, 21)
    assert CheckResults(lake).newest_numbers("o'hare", "quality") == {"rows": 21}
    assert len(lake.rows(CHECK_RESULTS)) == 3


def test_verdicts_of_runs_that_meet_are_all_kept(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda day: record(lake, f"check_{day % 4}", day, day), range(1, 21)))
    assert len(lake.rows(CHECK_RESULTS)) == 20
