"""What becomes of a table's columns when an incremental model has others: `on_schema_change`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dbt_common.exceptions import DbtRuntimeError

from factory_assets.storage.sql import quote_identifier


@dataclass(frozen=True)
class ColumnPlan:
    """The columns that a table is to have, and how old and new rows get them.

    Attributes:
        types: DuckDB type of each column, in the table's order.
        new_rows: Select list over the model's rows.
        old_rows: Select list over the table's rows.
        rewrites: Whether the old files cannot stay as they are: a column goes, or changes its type. (A dropped column
            that stayed in the files would come back with its old values under a new column of the same name.)
    """

    types: Mapping[str, str]
    new_rows: str
    old_rows: str
    rewrites: bool


def plan_columns(before: Mapping[str, str], after: Mapping[str, str], policy: str) -> ColumnPlan:
    """How rows with the columns `after` come into a table with the columns `before` (name to DuckDB type).

    Order does not matter: the table's stays. Unless `on_schema_change` says otherwise, a difference is refused, since the
    default of other adapters, to leave new columns out, loses data without a word.

    Raises:
        DbtRuntimeError: naming the columns that differ, and the remedies.
    """
    added = [name for name in after if name not in before]
    missing = [name for name in before if name not in after]
    retyped = [name for name in before if name in after and before[name] != after[name]]
    if not (added or missing or retyped):
        return _plan(before, after, before, rewrites=False)
    refused = {
        "fail": [*added, *missing, *retyped],
        "ignore": [*missing, *retyped],
        "append_new_columns": retyped,
        "sync_all_columns": [],
    }[policy]
    if refused:
        raise DbtRuntimeError(_describe(before, after, refused, policy))
    match policy:
        case "ignore":
            return _plan(before, after, before, rewrites=False)
        case "append_new_columns":
            wanted = {**before, **{name: after[name] for name in added}}
            return _plan(before, after, wanted, rewrites=False)
        case _:
            kept = {name: after[name] for name in before if name in after}
            wanted = {**kept, **{name: after[name] for name in added}}
            return _plan(before, after, wanted, rewrites=bool(missing or retyped))


def _plan(before: Mapping[str, str], after: Mapping[str, str], wanted: Mapping[str, str], rewrites: bool) -> ColumnPlan:
    return ColumnPlan(wanted, _select(after, wanted), _select(before, wanted), rewrites)


def _select(available: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    return ", ".join(
        quote_identifier(name)
        if available.get(name) == kind
        else f"CAST({quote_identifier(name) if name in available else 'NULL'} AS {kind}) AS {quote_identifier(name)}"
        for name, kind in wanted.items()
    )


def _describe(before: Mapping[str, str], after: Mapping[str, str], refused: Sequence[str], policy: str) -> str:
    changes = ", ".join(f"{name}: {before.get(name, 'absent')} -> {after.get(name, 'absent')}" for name in refused)
    remedy = {
        "fail": "run it once with --full-refresh, or set on_schema_change to append_new_columns or sync_all_columns",
        "ignore": "on_schema_change 'ignore' leaves new columns out and can do no more: set it to sync_all_columns, or run "
        "it once with --full-refresh",
        "append_new_columns": "on_schema_change 'append_new_columns' changes no types: set it to sync_all_columns, or run "
        "it once with --full-refresh",
    }[policy]
    return f"the model's columns differ from the table's ({changes}): an incremental run cannot change them, so {remedy}"
