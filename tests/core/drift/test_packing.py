"""Numbers in packed columns are those of the lists."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from factory_assets.core.drift.packing import FLOATS, INTEGERS, pack, pack_lists, unpack, unpack_lists

LISTS = st.lists(st.lists(st.floats(allow_nan=False), max_size=4), max_size=5)


@given(LISTS, st.data())
def test_a_part_of_a_packed_column_holds_the_numbers_of_its_lists(lists, data):
    start = data.draw(st.integers(0, len(lists)))
    column = pa.chunked_array([pa.array(lists, pa.list_(pa.float64()))])
    packed = pack_lists(column, FLOATS)
    assert packed.to_pylist() == [pack(numbers, FLOATS) for numbers in lists]
    flat, sizes = unpack_lists(pa.chunked_array([packed[:start], packed[start:]])[start:], FLOATS)
    assert flat.tolist() == [number for numbers in lists[start:] for number in numbers]
    assert sizes.tolist() == [len(numbers) for numbers in lists[start:]]


def test_whole_numbers_stay_whole():
    assert unpack(pack((2**62 + 1, 0), INTEGERS), INTEGERS) == (2**62 + 1, 0)
    assert np.isnan(unpack(pack((float("nan"),), FLOATS), FLOATS)[0])
