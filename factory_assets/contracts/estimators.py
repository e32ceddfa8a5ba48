"""The estimators that a line may name: a closed list, which an installation extends by a setting, never a line by itself.

A dotted path is imported when a model is fitted, so what may stand in a YAML file is a list and not a pattern.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, get_args

Task = Literal["classification", "regression"]
# How an estimator wants the raw columns: `scaled` and `dense` one-hot encode text and fill gaps, `scaled` standardises
# numbers too; `native` leaves gaps and codes text, for trees that know both; `raw` hands over the frame as it is.
Columns = Literal["scaled", "dense", "native", "raw"]


@dataclass(frozen=True)
class AllowedEstimator:
    """What is known of an estimator without importing it."""

    task: Task
    columns: Columns


_ALLOWED: dict[str, AllowedEstimator] = {
    "sklearn.ensemble.HistGradientBoostingClassifier": AllowedEstimator("classification", "native"),
    "sklearn.ensemble.GradientBoostingClassifier": AllowedEstimator("classification", "dense"),
    "sklearn.ensemble.RandomForestClassifier": AllowedEstimator("classification", "dense"),
    "sklearn.ensemble.ExtraTreesClassifier": AllowedEstimator("classification", "dense"),
    "sklearn.tree.DecisionTreeClassifier": AllowedEstimator("classification", "dense"),
    "sklearn.naive_bayes.GaussianNB": AllowedEstimator("classification", "dense"),
    "sklearn.linear_model.LogisticRegression": AllowedEstimator("classification", "scaled"),
    "sklearn.neighbors.KNeighborsClassifier": AllowedEstimator("classification", "scaled"),
    "sklearn.neural_network.MLPClassifier": AllowedEstimator("classification", "scaled"),
    "sklearn.ensemble.HistGradientBoostingRegressor": AllowedEstimator("regression", "native"),
    "sklearn.ensemble.GradientBoostingRegressor": AllowedEstimator("regression", "dense"),
    "sklearn.ensemble.RandomForestRegressor": AllowedEstimator("regression", "dense"),
    "sklearn.ensemble.ExtraTreesRegressor": AllowedEstimator("regression", "dense"),
    "sklearn.tree.DecisionTreeRegressor": AllowedEstimator("regression", "dense"),
    "sklearn.linear_model.Ridge": AllowedEstimator("regression", "scaled"),
    "sklearn.linear_model.ElasticNet": AllowedEstimator("regression", "scaled"),
    "sklearn.linear_model.HuberRegressor": AllowedEstimator("regression", "scaled"),
    "sklearn.linear_model.PoissonRegressor": AllowedEstimator("regression", "scaled"),
    "sklearn.linear_model.TweedieRegressor": AllowedEstimator("regression", "scaled"),
    "sklearn.neighbors.KNeighborsRegressor": AllowedEstimator("regression", "scaled"),
    "sklearn.neural_network.MLPRegressor": AllowedEstimator("regression", "scaled"),
}

# What every installation has.
BUILT_IN: dict[str, Task] = {path: allowed.task for path, allowed in _ALLOWED.items()}
_extra: dict[str, AllowedEstimator] = {}


def read_extra_estimators(text: str) -> dict[str, AllowedEstimator]:
    """Reads `path:task` or `path:task:columns`, parted by commas; columns are `scaled` when they are not said.

    >>> read_extra_estimators("forecasts.models.Croston:regression, forecasts.build_pipeline:regression:raw")
    ... # doctest: +NORMALIZE_WHITESPACE
    {'forecasts.models.Croston': AllowedEstimator(task='regression', columns='scaled'),
     'forecasts.build_pipeline': AllowedEstimator(task='regression', columns='raw')}

    Raises:
        ValueError: naming the entry that is not of that form, or that would change what a built-in path means.
    """
    entries: dict[str, AllowedEstimator] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        path, task, columns = [*(part.strip() for part in entry.split(":")), "scaled", "", ""][:3]
        module, _, name = path.rpartition(".")
        sound = module and all(part.isidentifier() for part in (*module.split("."), name)) and entry.count(":") in (1, 2)
        if not sound or task not in get_args(Task) or columns not in get_args(Columns):
            raise ValueError(
                f"{entry!r} is not an estimator: write package.module.Class:task or package.module.Class:task:columns,"
                f" with a task of {', '.join(get_args(Task))} and columns of {', '.join(get_args(Columns))}"
            )
        if path in _ALLOWED:
            raise ValueError(f"{path!r} is on the list already: leave it out")
        entries[path] = AllowedEstimator(task, columns)  # type: ignore[arg-type]
    return entries


def allow_estimators(extra: Mapping[str, AllowedEstimator]) -> None:
    """Makes `extra` the whole extension of the list in this process; nothing is imported by that."""
    # In one step, for another thread may be reading.
    _extra.update(extra)
    for path in set(_extra) - set(extra):
        del _extra[path]


def extra_estimators() -> dict[str, AllowedEstimator]:
    """The extension as it is, for a worker that shall know the same list."""
    return dict(_extra)


def find_estimator(path: str) -> AllowedEstimator:
    """What is known of an allowed estimator.

    Raises:
        ValueError: when `path` is not on the list.
    """
    allowed = _ALLOWED.get(path) or _extra.get(path)
    if allowed is None:
        known = [*_ALLOWED, *_extra]
        close = get_close_matches(path, known, n=1, cutoff=0.9) or [name for name in known if name.endswith(f".{path}")]
        remedy = f"did you mean {close[0]!r}? Else" if close else f"choose one of {', '.join(known)}, or"
        raise ValueError(
            f"{path!r} is not on the allow-list of estimators: {remedy} let the setting FACTORY_EXTRA_ESTIMATORS allow it"
        )
    return allowed
