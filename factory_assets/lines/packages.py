"""Which installed packages an estimator comes from: part of what a model is, and of what loads it again."""

import re
from functools import cache
from importlib.metadata import Distribution, distributions
from importlib.metadata import version as package_version


@cache
def find_distributions(estimator: str) -> tuple[str, ...]:
    """Names of the installed packages that a dotted path is imported from."""
    module = estimator.partition(".")[0]
    return tuple(sorted({package.metadata["Name"] for package in distributions() if _brings(package, module)}))


def _brings(package: Distribution, module: str) -> bool:
    """Whether an installed package says that it brings a module.

    `packages_distributions` of the standard library asks the same of all modules, and whether each of their files is there:
    half a second.
    """
    declared = (package.read_text("top_level.txt") or "").split()
    if declared:
        return module in declared
    files = package.read_text("RECORD") or ""
    return re.search(rf"^{re.escape(module)}(/|\.py,|\.[^/]*\.so,)", files, re.MULTILINE) is not None


@cache
def estimator_packages(estimator: str) -> tuple[str, ...]:
    """`name==version` of the packages that a dotted path is imported from, by name.

    Empty for a module that no installed package brought: its sources speak for it, see `training_code`.

    >>> [found.partition("==")[0] for found in estimator_packages("sklearn.linear_model.Ridge")]
    ['scikit-learn']
    """
    return tuple(f"{name}=={package_version(name)}" for name in find_distributions(estimator))
