import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from factory_assets.contracts.costs import ProcessSample, Usage
from factory_assets.core.costs import price_of, share_by_segment, usage_between

AMOUNTS = st.floats(0, 1e6)
USAGES = st.builds(Usage, AMOUNTS, AMOUNTS, AMOUNTS, st.integers(0, 2**40), st.integers(0, 2**50), st.integers(0, 2**50))
FITS = st.dictionaries(st.text(min_size=1, max_size=5), AMOUNTS, min_size=1, max_size=30)


@given(USAGES, FITS)
def test_the_shares_of_segments_add_up_to_the_whole(usage, fits):
    shares = list(share_by_segment(usage, fits).values())
    for name in ("cpu_seconds", "overhead_cpu_seconds", "wall_seconds", "bytes_read", "bytes_written"):
        assert math.isclose(sum(getattr(share, name) for share in shares), getattr(usage, name), rel_tol=1e-9, abs_tol=1e-6)
    assert {share.peak_memory_bytes for share in shares} == {usage.peak_memory_bytes}
    assert all(share.cpu_seconds >= 0 for share in shares)


@given(USAGES, FITS)
def test_a_dearer_fit_is_never_the_cheaper_segment(usage, fits):
    shares = share_by_segment(usage, fits)
    by_fit = sorted(fits, key=fits.__getitem__)
    costs = [shares[segment].cpu_seconds for segment in by_fit]
    assert all(later >= earlier - 1e-6 for earlier, later in pairwise(costs))


def test_without_segments_the_line_has_it_all():
    usage = Usage(1.0, 2.0, 3.0, 4, 5, 6)
    assert share_by_segment(usage, {}) == {"all": usage}


def test_what_lies_between_two_pieces_of_work_is_overhead_of_the_later_one():
    born, before, after = ProcessSample(0, 0, 0, 0), ProcessSample(10, 4, 100, 10), ProcessSample(13, 6.5, 160, 30)
    assert usage_between(before, after, born, 99) == Usage(2.5, 4, 3, 99, 60, 20)


def test_the_price_is_by_the_hour_of_cpu():
    assert price_of(Usage(3600, 0, 1, 0, 0, 0), 2.0) == 2.0
