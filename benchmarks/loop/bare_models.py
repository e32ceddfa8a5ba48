"""The bare script's models: what each line learns, its fit and evaluation, and the drift of its rows."""

import hashlib
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from scipy import stats
from sklearn import metrics
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

ESTIMATORS = {model.__name__: model for model in (HistGradientBoostingClassifier, HistGradientBoostingRegressor)}
UNITS = {"d": "days", "h": "hours", "m": "minutes"}


@dataclass(frozen=True)
class Line:
    """One model: what it learns from, and when it is fresh, good and steady enough."""

    name: str
    features: str
    labels: str
    entity: list[str]
    as_of: str
    label: str
    known_at: str
    estimator: type
    params: dict[str, Any]
    holdout: timedelta
    least_auc: float
    max_age: timedelta
    max_lag: timedelta
    window: timedelta
    threshold: float
    ignored: list[str]

    @property
    def key(self) -> list[str]:
        """What names a row, its moment first."""
        return list(dict.fromkeys((self.as_of, *self.entity)))

    @property
    def is_classifier(self) -> bool:
        """Whether it scores probabilities."""
        return self.estimator is HistGradientBoostingClassifier


def read_line(path: Path) -> Line:
    """The declaration that the factory reads too, so that both do the same."""
    declared = yaml.safe_load(path.read_text())["attributes"]
    label, freshness, drifts = declared["label"], declared.get("freshness", {}), declared.get("drift", {})
    return Line(
        name=declared["name"],
        features=f"features.{declared['feature_set']}",
        labels=f"marts.{label['model']}",
        entity=declared["entity"],
        as_of=declared["as_of"],
        label=label["column"],
        known_at=label["known_at"],
        estimator=ESTIMATORS[declared["estimator"].rpartition(".")[2]],
        params=declared.get("params", {}),
        holdout=span(declared.get("validation", {}).get("holdout", "14d")),
        least_auc=declared.get("promote_when", {}).get("at_least", 0.0),
        max_age=span(freshness.get("model_max_age", "30d")),
        max_lag=span(freshness.get("features_max_lag", "36h")),
        window=span(drifts.get("window", "7d")),
        threshold=drifts.get("threshold", 0.2),
        ignored=drifts.get("ignore", []),
    )


def span(text: str) -> timedelta:
    """A duration such as 36h."""
    return timedelta(**{UNITS[text[-1]]: int(text[:-1])})


@dataclass(frozen=True)
class Model:
    """A fitted pipeline, its holdout metrics, and the binned rows that drift is measured against."""

    pipeline: Pipeline
    numeric: list[str]
    text: list[str]
    metrics: dict[str, dict[str, float]]
    trained_until: datetime
    known_until: datetime
    bins: dict[str, tuple[np.ndarray | pd.Index, np.ndarray]]


def train(line: Line, frame: pd.DataFrame, now: datetime, folder: Path) -> Model:
    """Fits the model, a linear baseline and a dummy, and compares them on the newest days.

    Raises:
        ValueError: when the model is not good enough to serve.
    """
    cut = now - line.holdout
    fitting, holdout = frame[frame[line.as_of] <= cut], frame[frame[line.as_of] > cut]
    columns = [name for name in frame.columns if name not in (*line.key, "label")]
    numeric = [name for name in columns if pd.api.types.is_numeric_dtype(frame[name])]
    text = [name for name in columns if name not in numeric]
    target = fitting["label"].to_numpy()
    seed = {"random_state": 0}
    linear = LogisticRegression(max_iter=1000, **seed) if line.is_classifier else Ridge(**seed)
    trees = line.estimator(**line.params, **seed, categorical_features=list(range(len(text))))
    candidates = {
        "main": Pipeline([("columns", histogram_columns(numeric, text)), ("model", trees)]),
        "baseline": Pipeline([("columns", linear_columns(numeric, text)), ("model", linear)]),
        "dummy": DummyClassifier(strategy="prior") if line.is_classifier else DummyRegressor(),
    }
    scores: dict[str, np.ndarray] = {}
    for name, candidate in candidates.items():
        candidate.fit(prepare(fitting, numeric, text), target)
        rows = prepare(holdout, numeric, text)
        scores[name] = candidate.predict_proba(rows)[:, 1] if line.is_classifier else candidate.predict(rows)
    evaluated = {name: evaluate(line, holdout["label"].to_numpy(), found) for name, found in scores.items()}
    if evaluated["main"].get("roc_auc", 1.0) < line.least_auc:
        raise ValueError(f"{line.name}: {evaluated['main']} is not good enough")
    bins = {name: bin_rows(fitting[name]) for name in columns} | {"prediction": bin_rows(pd.Series(scores["main"]))}
    pickled = pickle.dumps(candidates["main"], protocol=5)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{line.name}.{hashlib.sha256(pickled).hexdigest()}.pickle").write_bytes(pickled)
    return Model(candidates["main"], numeric, text, evaluated, cut, now, bins)


def prepare(frame: pd.DataFrame, numeric: Sequence[str], text: Sequence[str]) -> pd.DataFrame:
    """Numbers as float64, text as str."""
    return pd.concat([frame[numeric].astype(np.float64), frame[text].astype("str")], axis=1)


def predict(model: Model, frame: pd.DataFrame) -> np.ndarray:
    """Probabilities of class 1, or values."""
    rows = prepare(frame, model.numeric, model.text)
    is_classifier = hasattr(model.pipeline, "predict_proba")
    return np.asarray(model.pipeline.predict_proba(rows)[:, 1] if is_classifier else model.pipeline.predict(rows))


def histogram_columns(numeric: list[str], text: list[str]) -> ColumnTransformer:
    """Categories as numbers, for trees that know them."""
    encoder = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan, max_categories=254
    )
    return ColumnTransformer([("text", encoder, text), ("numeric", "passthrough", numeric)])


def linear_columns(numeric: list[str], text: list[str]) -> ColumnTransformer:
    """One-hot categories, and numbers imputed and scaled."""
    encoder = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=10, max_categories=64)
    imputer = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    scaled = Pipeline([("impute", imputer), ("scale", StandardScaler())])
    return ColumnTransformer([("text", encoder, text), ("numeric", scaled, numeric)])


def evaluate(line: Line, truth: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """The metrics of the task."""
    if line.is_classifier:
        return {
            "roc_auc": metrics.roc_auc_score(truth, scores),
            "average_precision": metrics.average_precision_score(truth, scores),
            "log_loss": metrics.log_loss(truth, scores),
            "brier": float(np.mean((scores - truth) ** 2)),
        }
    error = scores - truth
    return {
        "r2": metrics.r2_score(truth, scores),
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
    }


def bin_rows(values: pd.Series) -> tuple[np.ndarray | pd.Index, np.ndarray]:
    """Ten quantile bins of numbers, or the thirty commonest texts, with their counts; missing values last."""
    edges: np.ndarray | pd.Index
    if pd.api.types.is_numeric_dtype(values):
        present = values.dropna().to_numpy()
        edges = np.unique(np.quantile(present, np.arange(1, 10) / 10, method="inverted_cdf"))
        if edges[0] == present.min():
            edges = np.concatenate([[np.nextafter(edges[0], -np.inf)], edges])
    else:
        edges = values.value_counts().index[:30]
    return edges, count_bins(edges, values)


def count_bins(edges: np.ndarray | pd.Index, values: pd.Series) -> np.ndarray:
    """Rows in each bin, then missing ones."""
    if isinstance(edges, pd.Index):
        found = edges.get_indexer(pd.Index(values))
        bins = np.where(found < 0, len(edges), found)
    else:
        bins = np.searchsorted(edges, values.to_numpy(), side="left")
    return np.bincount(np.where(values.isna(), len(edges) + 1, bins), minlength=len(edges) + 2)


def drift(model: Model, columns: Sequence[str], current: pd.DataFrame, threshold: float) -> tuple[float, bool]:
    """The largest population stability index, and whether none is above the threshold and confirmed by chi-square."""
    wanted = [(name, model.bins[name]) for name in columns]
    pairs = [(before, count_bins(edges, current[name])) for name, (edges, before) in wanted]
    values, p_values = np.array([psi(*pair) for pair in pairs]), [chi_square(*pair) for pair in pairs]
    confirmed = stats.false_discovery_control(p_values) <= 0.05
    return float(values.max()), not bool(((values > threshold) & confirmed).any())


def psi(before: np.ndarray, after: np.ndarray) -> float:
    """Population stability index; an empty bin counts as half a row."""
    seen = (before + after) > 0
    p, q = (np.maximum(n[seen] / n.sum(), max(1e-4, 0.5 / n.sum())) for n in (before, after))
    return float(((p - q) * np.log(p / q)).sum())


def chi_square(before: np.ndarray, after: np.ndarray) -> float:
    """p-value of one distribution behind both counts, bins of fewer than five expected rows pooled."""
    table = np.stack([before, after]).astype(float)
    rare = table.sum(axis=0) * (table.sum(axis=1).min() / table.sum()) < 5
    pooled = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
    return float(stats.chi2_contingency(pooled[:, pooled.sum(axis=0) > 0], correction=False).pvalue)
