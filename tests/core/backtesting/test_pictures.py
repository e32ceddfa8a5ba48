import io
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from PIL import Image

from factory_assets.contracts.backtest import BacktestReport, Difference, PolicyOutcome, ReplayedRetrain
from factory_assets.core.backtesting.pictures import plot_backtest
from factory_assets.core.backtesting.report_text import COLUMNS, describe_stretch, list_cells

FIRST = date(2013, 3, 1)
RETRAIN = ReplayedRetrain(date(2013, 3, 20), datetime(2013, 3, 21, 10, tzinfo=UTC), ("schedule",), "promoted", "better", 3.0)
WEEKS = tuple((FIRST + timedelta(days=7 * week), 0.7 + 0.01 * week) for week in range(5))
NEVER = PolicyOutcome("never", (), (), 0.7, WEEKS, 3.0, 1.0, 0.25, Difference("weekly", -0.05, -0.06, -0.04, 0.75))
WEEKLY = PolicyOutcome(
    "weekly", ("schedule",), (RETRAIN, replace(RETRAIN, outcome="kept_champion")), 0.75, WEEKS, 15.0, 1.0, 1.0
)
REPORT = BacktestReport("delay", "roc_auc", True, FIRST, date(2013, 4, 4), 1234, 3, 4, 2, 9.0, (NEVER, WEEKLY))


def test_the_same_report_gives_the_same_picture_and_another_one_another() -> None:
    picture = plot_backtest(REPORT)
    assert Image.open(io.BytesIO(picture)).format == "PNG"
    assert plot_backtest(REPORT) == picture
    assert plot_backtest(replace(REPORT, policies=(NEVER,))) != picture
    assert len(picture) < 80_000


def test_no_policies_and_no_weeks_are_drawn_as_well() -> None:
    assert plot_backtest(replace(REPORT, policies=()))
    assert plot_backtest(replace(REPORT, policies=(replace(WEEKLY, weeks=()),)))


def test_the_table_says_what_each_policy_did_gained_and_cost() -> None:
    never, weekly = (dict(zip(COLUMNS, cells, strict=True)) for cells in list_cells(REPORT))
    assert (never["gain"], never["95% interval"], never["saved"]) == ("-0.0500", "-0.0600 to -0.0400", "75%")
    assert (weekly["retrains"], weekly["promoted"], weekly["CPU s"], weekly["gain"]) == ("2", "1", "16", "")


def test_the_stretch_is_said_in_a_sentence() -> None:
    said = describe_stretch(REPORT)
    assert said.startswith("delay, first trained at the end of 2013-03-01, judged on 1,234 rows up to 2013-04-04")
    assert "lower is better" in describe_stretch(replace(REPORT, higher_is_better=False))
