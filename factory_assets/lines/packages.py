"""Which installed packages an estimator comes from: part of what a model is, and of what loads it again."""

from functools import cache
from importlib.metadata import packages_distributions
from importlib.metadata import version as package_version


@cache
def find_distributions(estimator: str) -> tuple[str, ...]:
    """Names of the installed packages that a dotted path is imported from; looking takes a quarter of a second."""
    return tuple(sorted(set(packages_distributions().get(estimator.partition(".")[0], []))))


@cache
def estimator_packages(estimator: str) -> tuple[str, ...]:
    """`name==version` of the packages that a dotted path is imported from, by name.

    Empty for a module that no installed package brought: its sources speak for it, see `training_code`.

    >>> [found.partition("==")[0] for found in estimator_packages("sklearn.linear_model.Ridge")]
    ['scikit-learn']
    """
    return tuple(f"{name}=={package_version(name)}" for name in find_distributions(estimator))
