"""The bare side: read the rows, fit every segment in a joblib loop on two workers, and score its later rows. Keeps nothing.

The same fits on the same rows by plain scikit-learn: what somebody writes in a notebook. `python -m benchmarks.fleet.bare
FOLDER SEGMENTS ESTIMATOR`
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.fleet.work import ESTIMATORS, FEATURES, HOLDOUT, KEYS, NOW, Estimator, Work
from benchmarks.loop.meter import Meter

WORKERS = 2


def make_model(estimator: Estimator) -> Any:
    """The plain scikit-learn model."""
    params = ESTIMATORS[estimator][1]
    if estimator != "logistic":
        return HistGradientBoostingClassifier(random_state=0, **params)
    impute = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    return make_pipeline(impute, StandardScaler(), LogisticRegression(max_iter=1000, random_state=0, **params))


def fit_segment(
    estimator: Estimator, rows: np.ndarray, labels: np.ndarray, seen: np.ndarray, judged: np.ndarray
) -> tuple[Any, float]:
    """Fits the seen rows, and gives the model and its ROC AUC on the judged ones."""
    train, target = rows[seen], labels[seen]
    if len(np.unique(target)) < 2:
        return None, float("nan")
    train[:, np.isnan(train).all(axis=0)] = 0.0
    model = make_model(estimator).fit(train, target)
    later = labels[judged]
    if len(np.unique(later)) < 2:
        return model, float("nan")
    return model, float(roc_auc_score(later, model.predict_proba(rows[judged])[:, 1]))


def read_rows(work: Work) -> pd.DataFrame:
    """The labelled rows, sorted by segment and time."""
    frame = work.open_stores().lake.query("from t", t=work.open_stores().training_sets.pin().table).to_pandas()
    return frame.sort_values([*KEYS, "scheduled_utc", "flight_id"], ignore_index=True)


def run(work: Work, meter: Meter, phase: str) -> dict[str, float]:
    """One pass over everything; returns each segment's metric."""
    with meter.stage(phase, "total"):
        frame = read_rows(work)
        values = frame[list(FEATURES)].to_numpy(dtype=np.float64)
        labels, moments = frame["label"].to_numpy(), frame["scheduled_utc"]
        seen = (moments <= NOW - HOLDOUT).to_numpy()
        # The factory keeps the newest quarter for the exam of the whole fleet.
        judged = ~seen & (moments <= NOW - HOLDOUT / 4).to_numpy()
        groups = frame.groupby(list(KEYS), sort=False).indices
        _, whole = fit_segment(work.estimator, values, labels, seen, judged)
        fitted = Parallel(n_jobs=WORKERS)(
            delayed(fit_segment)(work.estimator, values[rows], labels[rows], seen[rows], judged[rows])
            for rows in groups.values()
        )
        # Inside the stage: the CPU of workers is known once they have ended.
        get_reusable_executor().shutdown(wait=True)
    metrics = {"~".join(key): value for key, (_, value) in zip(groups, fitted, strict=True)}
    return {**metrics, "all": whole}


def main(folder: str, segments: str, estimator: Estimator) -> None:
    """One pass, starting the workers included."""
    meter = Meter()
    work = Work(Path(folder), int(segments), estimator)
    meter.facts["metrics"] = run(work, meter, "cycle")
    meter.save(work.folder / "bare.json")


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
