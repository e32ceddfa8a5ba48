"""The counts of a window that lies in memory as a frame: as `storage/tables/drift_windows.py` over Delta."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from factory_assets.contracts.reports import FeatureReference
from factory_assets.core.drift.measures import Comparison
from factory_assets.core.drift.references import cells_of
from factory_assets.core.models.features import numeric_values


def compare_frame(
    references: Mapping[str, Sequence[FeatureReference]], frame: pd.DataFrame, segments: np.ndarray | None = None
) -> list[Comparison]:
    """Counts the rows of a frame into the cells of their segments' references.

    Args:
        references: by segment key, one entry a feature.
        frame: a column for each referenced feature.
        segments: the segment key of each row; None takes all rows as the segment "all".

    Returns:
        A comparison for numbers and one for text, each only when there is any, in order of segment and feature.

    Raises:
        ValueError: for a referenced column that is absent or changed from numbers to text.
    """
    absent = sorted({r.feature for found in references.values() for r in found} - set(frame.columns))
    if absent:
        raise ValueError(f"features {absent} have a reference and no current column: a broken contract, not drift")
    keys = np.full(len(frame), "all") if segments is None else np.asarray(segments).astype(str)
    places = pd.Series(keys).groupby(keys).indices
    rows = {segment: frame.iloc[places.get(segment, [])] for segment in sorted(references)}
    pairs = [
        (segment, reference, rows[segment][reference.feature])
        for segment in rows
        for reference in sorted(references[segment], key=lambda r: r.feature)
    ]
    kinds = ([pair for pair in pairs if pair[1].is_numeric], [pair for pair in pairs if not pair[1].is_numeric])
    return [_compare(kind) for kind in kinds if kind]


def _compare(pairs: Sequence[tuple[str, FeatureReference, pd.Series]]) -> Comparison:
    groups = len(pairs)
    listed = [len(reference.counts) - 2 for _, reference, _ in pairs]
    width = max(1, *listed)
    is_numeric = pairs[0][1].is_numeric
    reference, current = np.zeros((2, groups, width + 2), dtype=np.int64)
    edges = np.zeros((groups, width if is_numeric else 0))
    outside = np.zeros((2, groups))
    for place, (_, kept, values) in enumerate(pairs):
        positions = np.r_[np.arange(listed[place]), width, width + 1]
        reference[place, positions] = kept.counts
        current[place, positions] = np.bincount(cells_of(kept, values), minlength=len(kept.counts))
        if kept.edges:
            edges[place] = np.r_[kept.edges, [kept.edges[-1]] * (width - listed[place])]
            present = numeric_values(values)
            present = present[~np.isnan(present)]
            outside[0, place] = np.maximum(kept.edges[0] - present, 0.0).sum()
            outside[1, place] = np.maximum(present - kept.edges[-1], 0.0).sum()
    categories = np.empty(groups, dtype=object)
    categories[:] = [kept.categories for _, kept, _ in pairs]
    return Comparison(
        segments=np.array([segment for segment, _, _ in pairs], dtype=object),
        features=np.array([kept.feature for _, kept, _ in pairs], dtype=object),
        reference=reference,
        current=current,
        edges=edges,
        below=outside[0],
        above=outside[1],
        spread=np.array([kept.spread for _, kept, _ in pairs]),
        discrete=np.array([kept.discrete for _, kept, _ in pairs], dtype=bool),
        design_effect=np.array([kept.design_effect for _, kept, _ in pairs]),
        categories=categories,
    )
