"""Which code a training is, so that a change of it trains an unchanged line again: the factory's own, and a user's."""

import ast
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

import factory_assets.core
from factory_assets.lines.packages import find_distributions

_CORE = Path(factory_assets.core.__file__ or "").parent
# What fits a model, and what a search judges its candidates by.
_MODELS = ("estimators", "features", "many_rows", "prediction")
_TRAINING = ("training/*.py", *(f"models/{name}.py" for name in _MODELS), "metrics.py")


@cache
def fingerprint_training_code() -> str:
    """What the modules that define a training mean: comments, docstrings and layout change nothing."""
    files = sorted(file for pattern in _TRAINING for file in _CORE.glob(pattern))
    return _hash((str(file.relative_to(_CORE)), read_meaning(file.read_text(encoding="utf-8"))) for file in files)


@cache
def fingerprint_estimator_sources(estimator: str) -> str:
    """The source files around a dotted path that no version speaks for: a loose module, or a package installed for editing.

    Empty for an estimator of installed packages, whose versions are known, and for one that cannot be found.
    """
    top = estimator.partition(".")[0]
    names = find_distributions(estimator)
    if names and not any(_is_editable(name) for name in names):
        return ""
    found = find_spec(top)
    if found is None:
        return ""
    if found.submodule_search_locations is None:
        return _hash([(top, Path(found.origin).read_text(encoding="utf-8"))]) if found.origin else ""
    folders = [Path(folder) for folder in found.submodule_search_locations]
    files = sorted((str(file.relative_to(folder)), file) for folder in folders for file in folder.rglob("*.py"))
    return _hash((name, file.read_text(encoding="utf-8")) for name, file in files)


def read_meaning(source: str) -> str:
    """A module's syntax tree without docstrings, as text.

    >>> read_meaning('x = 1  # one') == read_meaning('x=1')
    True
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:]
    return ast.dump(tree)


def _is_editable(name: str) -> bool:
    told = distribution(name).read_text("direct_url.json")
    return bool(told) and bool(json.loads(told or "{}").get("dir_info", {}).get("editable"))


def _hash(parts: Iterable[tuple[str, str]]) -> str:
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()
