"""Values of a window counted into the cells of the references that serve it: all segments and features in one sweep.

Takes what `storage/tables` reads, references and values as Arrow tables, and gives what the measures take.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from factory_assets.core.drift.measures import Comparison
from factory_assets.core.drift.packing import FLOATS, INTEGERS, unpack_lists

# Of a table of values: the place of the row's segment. No feature has this name: names of columns hold no space.
PLACE = "place of segment"


class ChangedTypeError(ValueError):
    """A feature that was numeric is text now: a broken contract, which is not drift."""


def count_numbers(kept: pa.Table, values: pa.Table, segments: Sequence[str]) -> Comparison:
    """Counts the values into the cells of the references, a feature at a time: what is looked up stays in the cache.

    Args:
        kept: the references that serve, by `place` of their segment and feature.
        values: PLACE, and a column for each feature.
        segments: the key at each place.
    """
    flat, sizes = unpack_lists(kept["edges"], FLOATS)
    groups, widest = len(sizes), max(int(sizes.max(initial=0)), 1)
    edges, width = _edges(flat, sizes, widest), widest + 2
    feature_of, features = _codes(kept["feature"])
    place_of, place = kept["place"].to_numpy(), values[PLACE].to_numpy()
    current = np.zeros(groups * width, dtype=np.int64)
    below, above = np.zeros(groups), np.zeros(groups)
    for code, name in enumerate(features):
        mine = np.flatnonzero(feature_of == code)
        row_of = np.full(len(segments), -1, dtype=np.intp)
        row_of[place_of[mine]] = np.arange(len(mine))
        numbers, row = values[name].to_numpy(), row_of[place]
        if len(mine) < len(segments):
            numbers, row = numbers[row >= 0], row[row >= 0]
        own = edges[mine]
        cells = _search(own, row, numbers)
        # Cells of a group end where its edges do; the one above, and the missing, stand at the end of the padded row.
        cells[cells >= sizes[mine][row]] = widest
        cells[~np.isfinite(numbers)] = widest + 1
        np.add.at(current, (mine * width)[row] + cells, 1)
        lowest, highest = np.flatnonzero(cells == 0), np.flatnonzero(cells == widest)
        np.add.at(below, mine[row[lowest]], np.maximum(own[row[lowest], 0] - numbers[lowest], 0.0))
        last = np.where(sizes[mine] > 0, own[:, -1], np.inf)
        np.add.at(above, mine[row[highest]], np.maximum(numbers[highest] - last[row[highest]], 0.0))
    served = np.array(segments, dtype=object)[place_of]
    counted = current.reshape(groups, width)
    return _comparison(kept, served, features[feature_of], counted, edges, below, above, sizes)


def _edges(flat: np.ndarray, sizes: np.ndarray, width: int) -> np.ndarray:
    """Each row's edges, and its last again up to the width; zeros where it has none."""
    if (sizes == width).all():
        return flat.reshape(len(sizes), width)
    edges = _pad(flat, sizes, width, np.nan)
    last = np.where(sizes > 0, edges[np.arange(len(sizes)), np.maximum(sizes - 1, 0)], 0.0)
    return np.where(np.isnan(edges), last[:, None], edges)


def _search(edges: np.ndarray, row: np.ndarray, values: np.ndarray) -> np.ndarray:
    """How many edges of its row lie below each value, by halving."""
    # Padded to one less than a power of two, so that a search needs no bounds.
    padded = np.full((len(edges), (1 << edges.shape[1].bit_length()) - 1), np.inf)
    padded[:, : edges.shape[1]] = edges
    width, flat = padded.shape[1], padded.ravel()
    base = row * np.intp(width) - 1
    place = base.copy()
    step = (width + 1) // 2
    while step:
        place += (flat[place + step] < values) * np.intp(step)
        step //= 2
    return np.asarray(place - base)


def count_texts(found: pa.Table) -> Comparison:
    """References and, beside each, its counted `cells` (from 1, the last for missing values) and their `rows`."""
    sizes = np.array([len(entry) for entry in found["categories"].to_pylist()], dtype=np.int64)
    groups, width = len(sizes), max(int(sizes.max(initial=0)), 1)
    cells, filled = _flatten(found["cells"])
    rows, _ = _flatten(found["rows"])
    group, _ = _places(filled)
    cells = cells.astype(np.int64)
    current = np.zeros((groups, width + 2), dtype=np.int64)
    beyond = cells - 1 - sizes[group]  # 0 is in no category, 1 is missing
    current[group, np.where(beyond < 0, cells - 1, width + beyond)] = rows
    nothing = np.zeros(groups)
    segments, features = (np.array(found[name].to_pylist(), dtype=object) for name in ("segment", "feature"))
    return _comparison(found, segments, features, current, np.zeros((groups, 0)), nothing, nothing, sizes)


def _comparison(
    found: pa.Table,
    segments: np.ndarray,
    features: np.ndarray,
    current: np.ndarray,
    edges: np.ndarray,
    below: np.ndarray,
    above: np.ndarray,
    sizes: np.ndarray,
) -> Comparison:
    counts, filled = unpack_lists(found["counts"], INTEGERS)
    wrong = sorted(set(features[filled != sizes + 2]))
    if wrong:
        raise ChangedTypeError(
            f"features {', '.join(wrong)} are numbers on one side and text on the other: a broken contract, which is not "
            "drift. Mend the dbt model, or retrain the line on the new type."
        )
    return Comparison(
        segments,
        features,
        _reference(counts, filled, current.shape[1]),
        current,
        edges,
        below,
        above,
        _numbers(found["spread"], float),
        found["discrete"].to_numpy().astype(bool),
        _numbers(found["design_effect"], float),
        _as_tuples(found["categories"]) if "categories" in found.column_names else _nothing(len(features)),
    )


def _reference(counts: np.ndarray, sizes: np.ndarray, width: int) -> np.ndarray:
    short = np.flatnonzero(sizes < width)
    if not len(short):
        return counts.reshape(len(sizes), width)
    # Of a row with fewer cells than the widest, the last two stand at the end as well.
    reference = _pad(counts, sizes, width, 0)
    ends = reference[short[:, None], sizes[short, None] - [2, 1]]
    reference[short[:, None], sizes[short, None] - [2, 1]] = 0
    reference[short, -2:] = ends
    return reference


def _nothing(count: int) -> np.ndarray:
    names = np.empty(count, dtype=object)
    names.fill(())
    return names


def _pad(flat: np.ndarray, sizes: np.ndarray, width: int, fill: float) -> np.ndarray:
    """Lists of these sizes, one after another, as rows of equal width."""
    rows = np.full((len(sizes), width), fill, dtype=flat.dtype)
    size = int(sizes.max(initial=0))
    if len(sizes) and size == sizes.min():
        rows[:, :size] = flat.reshape(len(sizes), size)
    else:
        rows[_places(sizes)] = flat
    return rows


def _as_tuples(column: pa.ChunkedArray) -> np.ndarray:
    names = np.empty(len(column), dtype=object)
    names[:] = [tuple(entry) for entry in column.to_pylist()]
    return names


def _flatten(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """The values of a list column one after another (missing ones as nan), and how many each row has."""
    lists = column.combine_chunks()
    return lists.flatten().to_numpy(zero_copy_only=False), np.asarray(lists.value_lengths().fill_null(0))


def _places(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of flattened lists: which row each value belongs to, and where it stood in its list."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    starts = np.cumsum(sizes) - sizes
    return group, np.arange(len(group)) - starts[group]


def _numbers(column: pa.ChunkedArray, kind: type = int) -> np.ndarray:
    return np.asarray(column.combine_chunks().fill_null(0).to_numpy(zero_copy_only=False).astype(kind))


def _codes(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Of each text its number, and the texts by their numbers."""
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy(), np.array(encoded.dictionary.to_pylist(), dtype=object)
