from datetime import timedelta

import pytest

from factory_assets.contracts.retrain_policy import RetrainSpec
from factory_assets.core.backtesting.policies import (
    DEFAULT_POLICIES,
    POLICIES,
    UnknownPolicyError,
    build_policy,
    check_policies,
)

OWN = RetrainSpec(
    triggers=({"when": "new_rows", "strategy": "sliding_window"},),
    new_rows=10,
    window="30d",
    cooldown="21d",
    confirm=2,
    action="alert_only",
)


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_can_be_built_for_a_line_with_every_key(name: str) -> None:
    policy = build_policy(name, OWN)
    assert (policy == OWN) == (name == "own")
    assert (policy.action == "retrain") == (name != "own")


def test_each_policy_is_triggered_by_what_its_name_says() -> None:
    built = {name: build_policy(name, OWN) for name in POLICIES}
    assert built["never"].named_triggers == ()
    assert built["on_drift"].named_triggers == ("feature_drift", "prediction_drift")
    assert built["on_quality"].named_triggers == ("quality",)
    assert built["keep_up"].named_triggers == ("feature_drift", "prediction_drift", "new_rows")
    assert (built["keep_up"].new_rows, built["keep_up"].cooldown, built["keep_up"].confirm) == ("1%", timedelta(days=1), 1)
    schedules = {name: built[name].schedule for name in ("daily", "weekly", "monthly")}
    assert schedules == {"daily": "0 0 * * *", "weekly": "0 0 * * 1", "monthly": "0 0 1 * *"}


def test_the_limits_of_the_line_hold_for_checks_and_not_for_schedules() -> None:
    assert (build_policy("on_drift", OWN).cooldown, build_policy("on_drift", OWN).confirm) == (timedelta(days=21), 2)
    assert (build_policy("daily", OWN).cooldown, build_policy("daily", OWN).confirm) == (timedelta(hours=1), 1)


def test_a_line_that_slides_slides_under_every_policy() -> None:
    own = RetrainSpec(strategy="sliding_window", window="30d")
    assert build_policy("weekly", own).window == timedelta(days=30)
    assert build_policy("weekly", own).strategy == "sliding_window"


@pytest.mark.parametrize(("name", "meant"), [("on-drift", "on_drift"), ("Weekly", "weekly"), ("mothly", "monthly")])
def test_a_misspelt_name_is_answered_with_its_neighbour(name: str, meant: str) -> None:
    with pytest.raises(UnknownPolicyError, match=f"did you mean {meant!r}"):
        check_policies([name])


def test_a_strange_name_is_answered_with_all_of_them() -> None:
    known = "daily, keep_up, monthly, never, on_drift, on_quality, own, weekly"
    with pytest.raises(UnknownPolicyError, match=f"'qqq' is not a policy: there are {known}"):
        check_policies(["qqq"])


def test_each_policy_counts_once_and_the_costly_ones_are_asked_for() -> None:
    assert check_policies(["own", "never", "own"]) == ("own", "never")
    assert set(POLICIES) - set(DEFAULT_POLICIES) == {"daily", "keep_up"}


@pytest.mark.parametrize("name", ["on_drift", "on_quality", "own"])
def test_a_policy_of_checks_can_be_tried_with_another_cooldown_and_keeps_all_else(name: str) -> None:
    tried = build_policy(f"{name}@3d", OWN)
    assert tried.cooldown == timedelta(days=3)
    assert tried.model_copy(update={"cooldown": OWN.cooldown}) == build_policy(name, OWN)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("weekly@3d", "has no cooldown"),
        ("own@3", "not a span of time"),
        ("own@", "not a span"),
        ("onw@3d", "did you mean 'own'"),
    ],
)
def test_a_cooldown_that_cannot_be_tried_is_refused(name: str, message: str) -> None:
    with pytest.raises(UnknownPolicyError, match=message):
        check_policies([name])


def test_what_keeps_up_and_what_goes_by_the_calendar_is_not_slowed_by_what_did_not_pay() -> None:
    slowed = {name for name in POLICIES if build_policy(name, OWN).payback.slower_by > 1}
    assert slowed == {"never", "on_drift", "on_quality", "own"}
