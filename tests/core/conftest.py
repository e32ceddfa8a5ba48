"""Builders of specs and labelled frames, as functions, so that a test says only what matters to it."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.ensemble  # noqa: F401 (loads the OpenMP runtime that is limited below)
from threadpoolctl import threadpool_limits

from factory_assets.contracts.model_line import ModelLineSpec

NOW = datetime(2013, 7, 1, tzinfo=UTC)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Threads that wait for a core cost a small fit ten times its work on a busy machine."""
    with threadpool_limits(limits=1):
        yield


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def build_spec() -> Callable[..., ModelLineSpec]:
    def build(**changes: Any) -> ModelLineSpec:
        declared = {
            "name": "arrival_delay",
            "feature_set": "feat_flight",
            "entity": ["flight_id"],
            "as_of": "departs_utc",
            "label": {"model": "fct_flights", "column": "late", "known_at": "arrives_utc"},
            "estimator": "sklearn.ensemble.HistGradientBoostingClassifier",
        }
        return ModelLineSpec.model_validate({**declared, **changes})

    return build


@pytest.fixture
def build_frame() -> Callable[..., pd.DataFrame]:
    """Labelled rows over 100 days before NOW; `delay` and `carrier` carry signal, `unknown` never has a value."""

    def build(rows: int = 1200, seed: int = 0, task: str = "classification") -> pd.DataFrame:
        random = np.random.default_rng(seed)
        delay = random.normal(size=rows)
        carrier = random.choice(["AA", "B6", "DL"], size=rows)
        truth = delay + (carrier == "AA") + random.normal(scale=0.5, size=rows)
        frame = pd.DataFrame(
            {
                "flight_id": np.arange(rows),
                "departs_utc": NOW - pd.to_timedelta(np.linspace(100, 0, rows), unit="D"),
                "delay": np.where(random.uniform(size=rows) < 0.1, np.nan, delay),
                "unknown": np.full(rows, np.nan),
                "carrier": pd.Series(carrier).where(random.uniform(size=rows) > 0.05),
                "weekend": random.uniform(size=rows) < 2 / 7,
            }
        )
        return frame.assign(label=truth > 0.4 if task == "classification" else truth)

    return build
