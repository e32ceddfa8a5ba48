import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from factory_assets.contracts.drift_policy import DriftSpec, JointDriftSpec
from factory_assets.core.drift import numeric_references
from factory_assets.core.drift.frames import compare_frame
from factory_assets.core.drift.joint import DatedRows, encode_rows, evaluate_joint
from factory_assets.core.drift.verdicts import evaluate_drift
from factory_assets.core.pictures.joint_plots import plot_joint

DAYS, GAP, WINDOW = 84, 14, 7
NAMES = ["a", "b", "c", "d"]


@pytest.fixture(autouse=True)
def _one_thread():
    with threadpool_limits(limits=1):
        yield


def make_world(seed, correlation=0.0, days_alike=0.0, a_day=40, window=WINDOW, shift=0.0):
    """Standard normals whose days have a common part that lasts; in the newest window `b` follows `a`."""
    random = np.random.default_rng(seed)
    span = DAYS + GAP + window
    common = random.normal(size=(span, len(NAMES)))
    for day in range(1, span):
        common[day] = 0.8 * common[day - 1] + 0.6 * common[day]
    days = np.repeat(np.arange(span), a_day)
    own = random.normal(size=(len(days), len(NAMES)))
    newest = days >= DAYS + GAP
    own[newest, 1] = correlation * own[newest, 0] + np.sqrt(1 - correlation**2) * own[newest, 1]
    own[newest, 2] += shift
    values = np.sqrt(1 - days_alike) * own + np.sqrt(days_alike) * common[days]
    return DatedRows(values, days).take(days < DAYS), DatedRows(values, days).take(newest)


def judge(sides, level=0.05, window=WINDOW, **spec):
    return evaluate_joint(*sides, NAMES, [False] * 4, JointDriftSpec(**spec), window_days=window, gap_days=GAP, level=level)


def test_a_change_of_correlation_is_found_that_no_feature_shows():
    sides = make_world(1, correlation=0.9)
    report = judge(sides, level=1 / 30)
    assert report.exceeded
    assert report.auc > 0.7 > max(report.own_aucs) + 0.1
    assert {name for name, _ in report.importance[:2]} == {"a", "b"}
    assert "a classifier tells 280 sampled rows against 3,360 of training".capitalize() in report.reason
    frames = [pd.DataFrame(side.values, columns=NAMES) for side in sides]
    references = {"all": numeric_references(NAMES, sides[0].values, sides[0].days)}
    features, table = evaluate_drift(compare_frame(references, frames[1]), DriftSpec(min_rows=50))
    assert not features.drifted
    assert table.p_adjusted.min() > 0.05


def test_a_shift_of_one_feature_is_found_too_unless_marginals_are_removed():
    sides = make_world(2, shift=1.2)
    assert judge(sides).exceeded
    assert judge(sides).importance[0][0] == "c"
    assert not judge(sides, marginals="removed").exceeded
    assert judge(make_world(2, correlation=0.95), marginals="removed").exceeded


@pytest.mark.parametrize("marginals", ["kept", "removed"])
def test_days_that_resemble_their_neighbours_raise_no_false_alarm(marginals):
    """Of 12 worlds without a change, at a level of a tenth: one is expected, five are one in two hundred."""
    reports = [
        judge(make_world(seed, days_alike=0.4, a_day=15), level=0.1, marginals=marginals, size=0.501) for seed in range(12)
    ]
    assert sum(report.exceeded for report in reports) <= 4
    if marginals == "kept":  # Without the windows of the reference, most of these would be alarms.
        assert sum(report.auc > 0.55 for report in reports) > 6


def test_the_size_decides_and_below_it_no_window_is_looked_at():
    sides = make_world(1, correlation=0.9)
    assert judge(sides, size=0.95).own_aucs == ()
    assert not judge(sides, size=0.95).exceeded
    assert "no difference that matters" in judge(sides, size=0.95).reason


def test_the_level_decides():
    sides = make_world(1, correlation=0.9)
    found = judge(sides).p_value
    assert not judge(sides, level=found * 0.9).exceeded
    assert judge(sides, level=found * 1.1).exceeded


def test_days_of_the_week_do_not_tell_a_short_window():
    """The classifier is never taught Mondays of one side alone: a feature that follows the week says nothing."""
    sides = [DatedRows(np.column_stack([side.values[:, :3], side.days % 7]), side.days) for side in make_world(3)]
    assert judge(sides).auc == pytest.approx(0.5, abs=0.06)
    assert not judge(sides, level=0.5).exceeded


def test_the_same_seed_gives_the_same_report():
    assert judge(make_world(1, correlation=0.9)) == judge(make_world(1, correlation=0.9))


@pytest.mark.parametrize(
    ("sides", "window", "words"),
    [
        (make_world(0), 60, "84 days of training hold fewer than 2 windows of 60 days"),
        ((make_world(0)[0], DatedRows(np.empty((0, 4)), np.empty(0, dtype=np.int64))), 7, "0 sampled rows of 0 days"),
        ((make_world(0)[0], DatedRows(np.zeros((90, 4)), np.full(90, 99))), 7, "90 sampled rows of 1 days"),
    ],
)
def test_what_says_nothing_is_not_judged_and_says_why(sides, window, words):
    report = judge(sides, window=window)
    assert not report.judged
    assert not report.exceeded
    assert report.reason.startswith("Not judged: ")
    assert words in report.reason
    assert plot_joint(report).startswith(b"\x89PNG")


def test_missing_values_and_columns_without_any_are_taken_as_they_are():
    sides = [DatedRows(np.where([False, True, False, False], np.nan, side.values), side.days) for side in make_world(4)]
    assert judge(sides).judged
    gone = DatedRows(np.where([True, False, False, False], np.nan, sides[1].values), sides[1].days)
    assert judge((sides[0], gone)).exceeded


def test_text_is_known_by_the_commonest_values_of_the_reference():
    reference = pd.DataFrame({"n": [1.0, np.inf, 3.0], "t": ["x", "y", "y"]})
    current = pd.DataFrame({"n": [2.0, np.nan, 0.0], "t": ["y", None, "new"]})
    assert encode_rows(reference, reference, ["n", "t"])[:, 1].tolist() == [1, 0, 0]
    found = encode_rows(current, reference, ["n", "t"])
    np.testing.assert_array_equal(found, [[2.0, 0.0], [np.nan, np.nan], [0.0, 30.0]])


def test_a_picture_is_drawn_of_a_verdict():
    assert len(plot_joint(judge(make_world(1, correlation=0.9)))) > 3000
