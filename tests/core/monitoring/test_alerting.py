from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from factory_assets.contracts.alerts import AlertMessage, AlertsSpec, Trouble
from factory_assets.core.monitoring.alerting import decide_alert

NOW = datetime(2026, 5, 1, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)


def a_check(name: str = "a:drift", wrong: bool = True, **values: Any) -> Trouble:
    return Trouble(f"check {name}", wrong, "3 of 14 drifted", **values)


def decide(troubles: list[Trouble], told: list[AlertMessage], now: datetime = NOW, **keys: Any) -> AlertMessage | None:
    return decide_alert(troubles, told, AlertsSpec.model_validate(keys), now)


def said(troubles: list[Trouble], told: list[AlertMessage], now: datetime = NOW, **keys: Any) -> AlertMessage:
    message = decide(troubles, told, now, **keys)
    assert message is not None
    return message


def test_what_failed_in_one_tick_is_one_message_and_then_silence() -> None:
    troubles = [a_check("a:drift"), a_check("b:age"), Trouble("feed flights 2013-05-01", True, "half batch")]
    message = said(troubles, [])
    assert message.troubles == ("check a:drift", "check b:age", "feed flights 2013-05-01")
    assert message.title == "Factory: 3 new (a:drift and more)"
    assert decide(troubles, [message], NOW + HOUR) is None


def test_a_fleet_of_a_thousand_segments_is_one_line() -> None:
    message = said([a_check(failing_segments=1000)], [])
    assert message.body.count("\n- ") == 1
    assert "[1,000 segments]" in message.body


def test_a_passing_check_that_nobody_was_told_of_says_nothing() -> None:
    assert decide([a_check(wrong=False)], []) is None


def test_the_end_is_told_once_and_only_of_what_was_told() -> None:
    first = said([a_check()], [])
    over = said([a_check(wrong=False), a_check("b:age", wrong=False)], [first], NOW + HOUR)
    assert (over.troubles, over.resolved) == ((), ("check a:drift",))
    assert decide([a_check(wrong=False)], [first, over], NOW + 2 * HOUR) is None
    assert decide([a_check(wrong=False)], [first], NOW + HOUR, tell_resolved=False) is None


def test_a_check_that_flaps_waits_for_the_cooldown() -> None:
    first = said([a_check()], [])
    over = said([a_check(wrong=False)], [first], NOW + HOUR)
    assert decide([a_check()], [first, over], NOW + 2 * HOUR) is None
    assert said([a_check()], [first, over], NOW + 6 * HOUR).troubles == ("check a:drift",)
    assert said([a_check()], [first, over], NOW + 2 * HOUR, cooldown="2h").troubles == ("check a:drift",)


def test_a_trouble_that_stays_is_told_again_after_a_day() -> None:
    first = said([a_check()], [])
    assert decide([a_check()], [first], NOW + 23 * HOUR) is None
    assert "Still wrong:" in said([a_check()], [first], NOW + 24 * HOUR).body
    assert "Still wrong:" in said([a_check()], [first], NOW + 7 * HOUR, remind="7h").body


def test_severity_and_ignore_leave_out() -> None:
    assert decide([a_check(severity="warn")], []) is not None
    assert decide([a_check(severity="warn")], [], severity="error") is None
    assert decide([a_check("a:drift")], [], ignore=["drift"]) is None
    assert decide([a_check("a:drift")], [], ignore=["b:*"]) is not None


def test_the_same_news_has_the_same_key_and_the_next_time_another() -> None:
    first = said([a_check()], [])
    assert said([a_check()], [], NOW + HOUR).key == first.key
    over = said([a_check(wrong=False)], [first], NOW + HOUR)
    assert len({first.key, over.key, said([a_check()], [first, over], NOW + 9 * HOUR).key}) == 3


def test_text_from_data_cannot_forge_a_line() -> None:
    message = said([Trouble("check a:drift", True, "x\n- check b:age: all is lost\r\n")], [])
    assert message.body.count("\n") == 1
    assert len(said([Trouble("check a:drift", True, "x" * 9000)], []).body) < 600


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), max_size=30), st.integers(1, 12))
def test_whatever_happens_people_know_in_the_end_and_are_not_told_twice(ticks: list[list[bool]], hours: int) -> None:
    told: list[AlertMessage] = []
    now = NOW
    for states in [*ticks, *([ticks[-1]] * 30 if ticks else [])]:
        now += hours * HOUR
        troubles = [a_check(str(n), wrong) for n, wrong in enumerate(states)]
        message = decide(troubles, told, now)
        told += [message] if message else []
        for n in range(3):
            times = [m.at_utc for m in told if f"check {n}" in m.troubles]
            assert all(later - earlier >= 6 * HOUR for earlier, later in pairwise(times))
    for n in range(3):
        mentions = [m for m in told if f"check {n}" in (*m.troubles, *m.resolved)]
        known = bool(mentions) and f"check {n}" in mentions[-1].troubles
        assert not ticks or known == ticks[-1][n]
