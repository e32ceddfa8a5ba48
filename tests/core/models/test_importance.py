import math
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from factory_assets.core.models.importance import feature_importance
from factory_assets.core.training.fit import fit_and_evaluate
from factory_assets.core.training.time_split import cut_by_time


@pytest.fixture(params=["classification", "regression"])
def trained(request, build_spec, build_frame, now):
    kind = "Classifier" if request.param == "classification" else "Regressor"
    spec = build_spec(estimator=f"sklearn.ensemble.HistGradientBoosting{kind}", params={"max_iter": 20})
    frame = build_frame(task=request.param)
    holdout = now - frame["departs_utc"].iloc[600]
    split = cut_by_time(pa.Table.from_pandas(frame), "departs_utc", holdout, None, now, timedelta(0))
    return request.param, fit_and_evaluate(spec, split), split.holdout.to_pandas()


def _importance(trained, seed=0, **changes):
    task, model, holdout = trained
    return feature_importance(
        model.model, holdout, model.holdout_labels, model.numeric, model.categorical, task, seed, **changes
    )


def test_signal_comes_first_and_a_column_without_values_counts_nothing(trained):
    importance = _importance(trained)
    assert list(importance)[:2] == ["delay", "carrier"]
    assert importance["delay"] > 0.01
    assert importance["unknown"] == 0.0
    assert list(importance.values()) == sorted(importance.values(), reverse=True)


def test_the_seed_decides_the_result_and_max_rows_the_sample(trained):
    assert _importance(trained) == _importance(trained)
    assert _importance(trained) != _importance(trained, seed=1)
    assert _importance(trained) != _importance(trained, max_rows=50)


def test_no_rows_leave_it_undefined(trained):
    task, model, holdout = trained
    empty = feature_importance(model.model, holdout.head(0), np.array([]), model.numeric, model.categorical, task, 0)
    assert len(empty) == 4
    assert all(math.isnan(value) for value in empty.values())
