import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from factory_assets.core.drift.alarms import chance_of_a_start


@pytest.mark.parametrize("days", [2, 7, 14, 90])
@pytest.mark.parametrize("p_value", [0.05, 0.005, 1e-5])
def test_a_start_is_today_above_and_yesterday_not(days, p_value) -> None:
    z, shared = stats.norm.isf(p_value), 1 - 1 / days
    both = stats.multivariate_normal([0, 0], [[1, shared], [shared, 1]]).cdf([-z, -z])
    assert chance_of_a_start(p_value, days) == pytest.approx(p_value - both, rel=1e-6)


def test_so_many_alarms_start_on_days_that_never_change() -> None:
    """Means of the newest fortnight of independent days: alarms that begin, counted over 300 years."""
    days = np.random.default_rng(0).normal(size=110_000)
    window = np.convolve(days, np.full(14, 1 / np.sqrt(14)), mode="valid")
    above = window > stats.norm.isf(0.02)
    starts = np.count_nonzero(above[1:] & ~above[:-1]) / (len(above) - 1)
    assert starts == pytest.approx(chance_of_a_start(0.02, 14), rel=0.1)


@given(st.floats(0.0, 0.5), st.integers(1, 400))
def test_windows_that_overlap_start_fewer_alarms_than_they_show(p_value, days) -> None:
    assert -1e-12 <= chance_of_a_start(p_value, days) <= p_value
