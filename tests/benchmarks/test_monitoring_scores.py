"""How the replay of a year counts: requests after a cooldown, those that preceded a real loss, losses found, days ahead."""

from typing import Any

import pytest

from benchmarks.monitoring.compare import Watch, score_rule
from benchmarks.monitoring.truth import Truth


def watch(alarms: list[int], losses: list[int]) -> Watch:
    """A service of 84 days from day 0, looked at each week, with a loss in the fortnights that begin on the days named."""
    truths = [Truth(day, day in losses, True, 0.0) for day in range(14, 85, 14)]
    champion: Any = None
    return Watch("line", champion, range(7, 85, 7), truths, {"rule": alarms})


def test_a_check_that_stays_failed_asks_once_a_cooldown() -> None:
    score = score_rule([watch(list(range(7, 85, 7)), [])], "rule")
    assert score.requests == 4
    assert score.monthly == pytest.approx(4 * 30 / 84)
    assert score.precision == 0.0


def test_a_request_within_four_weeks_before_a_loss_is_right_and_tells_how_early() -> None:
    score = score_rule([watch([21], [42, 56])], "rule")
    assert (score.precision, score.recall) == (1.0, 1.0)
    assert score.lead_days == 42 + 14 - 21


def test_a_request_that_is_too_early_or_too_late_finds_nothing() -> None:
    assert score_rule([watch([7], [42])], "rule").recall == 0.0
    late = score_rule([watch([49], [42])], "rule")
    assert (late.precision, late.recall) == (0.0, 0.0)


def test_a_loss_that_goes_on_makes_a_later_request_right_but_is_not_found_by_it() -> None:
    score = score_rule([watch([49], [42, 56])], "rule")
    assert (score.precision, score.recall, score.recall_at_all) == (1.0, 0.0, 1.0)
