"""How the replay of a year counts: alarms and requests, those that preceded a real loss, losses found, days ahead."""

from typing import Any

import pytest

from benchmarks.monitoring.scoring import Tally, Watch, score_rule, tally
from benchmarks.monitoring.truth import Truth

EVERY_DAY = list(range(1, 85))


def watch(failed: list[int], losses: list[int]) -> Watch:
    """A service of 84 days from day 0, looked at every day, with a loss in the fortnights that begin on the days named."""
    truths = [Truth(day, day in losses, True, 0.0) for day in range(14, 85, 14)]
    champion: Any = None
    return Watch("line", champion, range(1, 85), truths, {"rule": failed})


def count(failed: list[int], losses: list[int]) -> Tally:
    return tally(watch(failed, losses), "rule")[0]


def test_a_check_that_stays_failed_is_one_alarm_and_asks_once_a_cooldown() -> None:
    counted = count(EVERY_DAY, [])
    assert (counted.alarms, counted.requests, counted.right) == (1, 4, 0)
    assert counted.figures()["retrains asked for a month"] == pytest.approx(4 / counted.months)


def test_a_week_without_a_failure_ends_an_alarm() -> None:
    assert count([7, 8, 15, 23], []).alarms == 2


def test_an_alarm_within_four_weeks_before_a_loss_is_right_and_tells_how_early() -> None:
    counted, leads = tally(watch([21], [42, 56]), "rule")
    assert (counted.right, counted.losses, counted.found) == (1, 1, 1)
    assert leads == [42 + 14 - 21]


def test_an_alarm_that_is_too_early_finds_nothing() -> None:
    counted = count([7], [42])
    assert (counted.right, counted.found) == (0, 0)


def test_the_day_that_ends_the_first_week_of_a_loss_is_the_last_that_finds_it() -> None:
    assert count([49], [42, 56]).found == 1
    late = count([50], [42, 56])
    assert (late.right, late.found) == (1, 0)


def test_what_has_failed_for_months_finds_no_loss() -> None:
    counted = count(EVERY_DAY, [56])
    assert (counted.losses, counted.found) == (1, 0)


@pytest.mark.parametrize("failed", [EVERY_DAY, []])
def test_failing_always_or_never_is_worth_nothing(failed: list[int]) -> None:
    assert count(failed, [42]).figures()["informedness"] == 0.0


def test_failing_only_before_losses_is_worth_everything() -> None:
    perfect = count(list(range(14, 56)), [42])
    assert (perfect.before, perfect.calm_failed) == (42, 0)
    assert perfect.figures()["informedness"] == 100.0


def test_services_add_up_and_their_interval_holds_the_figure() -> None:
    found, intervals = score_rule([watch([21], [42, 56]), watch([7], [42])], "rule")
    assert (found["precision"], found["recall"]) == (50.0, 50.0)
    assert intervals["precision"] == (0.0, 100.0)
    assert found["days ahead of complete labels, median"] == 35
