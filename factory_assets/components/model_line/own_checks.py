"""A user's own checks, dbt tests and plain Dagster asset checks, by the names that a line's declaration gives them.

The only module that walks the component tree for definitions; a test holds it to the pinned version of Dagster.
"""

from collections.abc import Iterable, Mapping, Sequence

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster.components.core.defs_module import PythonFileComponent

from factory_assets.components.check_verdicts import read_newest_verdicts
from factory_assets.components.dbt_project import DbtProject
from factory_assets.contracts.declarations import Problem
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.names import suggest

OwnChecks = Mapping[str, dg.AssetCheckKey]
_LISTED = "the UI lists them on the tab Checks of each asset, and `dbt ls --resource-type test` those of dbt"


def find_own_checks(context: dg.ComponentLoadContext) -> list[dg.AssetCheckKey]:
    """The dbt tests of the declared projects, and the asset checks of Python files below `defs/`.

    A file that cannot be imported is not in the tree, and says so itself.
    """
    tree = context.component_tree
    found = [
        key
        for project in tree.get_all_components(of_type=DbtProject)
        if not project.problems
        for key in project.test_keys(context.project_root)
    ]
    for module in tree.get_all_components(of_type=PythonFileComponent):
        definitions = tree.build_defs_at_path(module.path)
        for checks in definitions.asset_checks or ():
            found.extend(checks.check_keys)
        for assets in definitions.assets or ():
            if isinstance(assets, dg.AssetsDefinition):
                found.extend(assets.check_keys)
    return sorted(set(found))


def resolve_own_checks(names: Iterable[str], known: Sequence[dg.AssetCheckKey]) -> OwnChecks:
    """The check of each name; names that `name_problems` complains of are left out."""
    return {name: found[0] for name in names if len(found := _matches(name, known)) == 1}


def name_problems(spec: ModelLineSpec, file: str, known: Sequence[dg.AssetCheckKey]) -> list[Problem]:
    """What is wrong with the names of own checks in a declaration, with the nearest that there are."""
    named = [
        *((f"retrain.triggers.{place}.check", rule.check) for place, rule in enumerate(spec.retrain.triggers) if rule.check),
        *((f"blocked_by.{place}", name) for place, name in enumerate(spec.blocked_by)),
    ]
    names = {text for check in known for text in (check.name, _text(check))}
    problems = []
    for key, name in named:
        found = _matches(name, known)
        if len(found) > 1:
            listed = ", ".join(map(_text, found))
            problems.append(Problem(file, 1, key, f"{name!r} is the name of several checks: write one of {listed}"))
        elif not found:
            meant = suggest(name, names, _LISTED) if names else "there are none: write a dbt test or an asset check first"
            problems.append(Problem(file, 1, key, f"{name!r} is no check of your own: {meant}"))
    return problems


def read_blocking(instance: dg.DagsterInstance, checks: OwnChecks, run_id: str = "") -> str:
    """Why nothing may be scored now: a check failed last, or is still to run in the run `run_id`; empty when nothing is.

    A check that was never evaluated blocks nothing.
    """
    keys = list(checks.values())
    if not keys:
        return ""
    newest = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    waits = [
        f"{_text(key)} is still to be evaluated in this run."
        for key, record in newest.items()
        if record.run_id == run_id and record.status == AssetCheckExecutionRecordStatus.PLANNED
    ]
    failed = [f"{_text(v.key)} has failed: {v.summary}" for v in read_newest_verdicts(instance, keys) if not v.passed]
    return " ".join([*failed, *waits])


def _matches(name: str, known: Sequence[dg.AssetCheckKey]) -> list[dg.AssetCheckKey]:
    return [key for key in known if name in (key.name, _text(key))]


def _text(key: dg.AssetCheckKey) -> str:
    return f"{key.asset_key.to_user_string()}:{key.name}"
