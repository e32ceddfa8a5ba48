"""What a training row weighs."""

from datetime import datetime, timedelta

import numpy as np
import pandas as pd


def recency_weights(moments: pd.Series, cut_utc: datetime, half_life: timedelta) -> np.ndarray:
    """A weight of one at the cut, which halves with every `half_life` before it.

    >>> moments = pd.Series(pd.to_datetime(["2013-05-02", "2013-07-01"], utc=True))
    >>> recency_weights(moments, datetime.fromisoformat("2013-07-01T00:00:00+00:00"), timedelta(days=60))
    array([0.5, 1. ])

    Args:
        moments: as-of times; naive ones are read as UTC.
        cut_utc: the end of the training rows.
        half_life: above zero.

    Returns:
        float64 of shape (n,), above zero, at most one for moments up to the cut.
    """
    ages = (pd.Timestamp(cut_utc) - pd.to_datetime(moments, utc=True)) / half_life
    # Rows so old that their weight would vanish keep the smallest one: a weight of zero takes a row out of the fit.
    return np.maximum(np.exp2(-ages.to_numpy(dtype=np.float64)), np.finfo(np.float32).tiny)
