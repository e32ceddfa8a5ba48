"""Rows in a file without a name, which goes with the last look at it."""

import tempfile

import numpy as np
import pyarrow as pa

from factory_assets.compute.mapped_table import MappedTable, map_table

# The rows that are in memory a second time while they are sorted: 64k of them are about 10 MB.
_BATCH_ROWS = 65_536


def write_rows(table: pa.Table, order: np.ndarray | None = None) -> MappedTable:
    """Writes the rows of a table, brought into `order`, some at a time."""
    with tempfile.TemporaryFile(prefix="factory-rows-") as file:
        with pa.ipc.new_file(pa.PythonFile(file, "w"), table.schema) as writer:
            for start in range(0, table.num_rows, _BATCH_ROWS):
                rows = min(_BATCH_ROWS, table.num_rows - start)
                some = table.slice(start, rows) if order is None else table.take(pa.array(order[start : start + rows]))
                for batch in some.combine_chunks().to_batches():
                    writer.write_batch(batch)
        file.flush()
        return map_table(file)
