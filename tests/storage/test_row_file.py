import gc

import numpy as np
import pyarrow as pa
import pytest

from factory_assets.storage import row_file
from factory_assets.storage.row_file import write_rows


def rows(count: int) -> pa.Table:
    numbers = np.random.default_rng(0).random(count)
    return pa.table({"number": numbers, "text": [f"row {place}" if place % 3 else None for place in range(count)]})


@pytest.mark.parametrize("count", [0, 1, 7, 20])
def test_the_rows_come_back_in_the_order_that_was_asked_for(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_file, "_BATCH_ROWS", 7)
    table, order = rows(count), np.random.default_rng(1).permutation(count)
    found = write_rows(table, order)
    assert found.table.equals(table.take(pa.array(order, pa.int64())))
    found.forget()
    assert found.table.equals(table.take(pa.array(order, pa.int64())))
    assert write_rows(table).table.equals(table)


def test_rows_in_a_file_take_no_memory_of_arrows_and_are_written_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_file, "_BATCH_ROWS", 1000)
    table = rows(50_000)
    found = write_rows(table, np.arange(50_000)[::-1])
    expected = table["number"][0]
    del table
    gc.collect()
    assert max(len(chunk) for chunk in found.table["number"].chunks) == 1000
    assert found.table["number"][49_999] == expected
    assert pa.total_allocated_bytes() < found.table.nbytes / 2
