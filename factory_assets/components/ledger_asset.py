"""The retrain ledger as an asset: its counts, its open causes, what promotions paid, and how long answers take."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from factory_assets.components.naming import ACCOUNTS_GROUP, ledger_key
from factory_assets.lines.accounts import read_ledger_standing
from factory_assets.storage.delta.lake import Lake


def build_ledger_spec() -> dg.AssetSpec:
    """An asset that no run makes: sensors write the ledger, and show it whenever it has changed."""
    return dg.AssetSpec(
        ledger_key(),
        description="Why models were retrained: every cause from the verdict to the answer, and what comes next for it.",
        group_name=ACCOUNTS_GROUP,
        kinds={"delta"},
    )


def show_ledger(lake: Lake) -> list[dg.AssetMaterialization]:
    """The event that shows the ledger as it is now."""
    standing = read_ledger_standing(lake)
    waiting = [
        {name: str(value) for name, value in row.items() if value is not None and value != ""} for row in standing.unsettled
    ]
    return [
        dg.AssetMaterialization(
            ledger_key(),
            metadata={
                **{f"causes_{state}": count for state, count in standing.causes.items()},
                **{
                    f"promotions_{verdict}": sum(row[verdict] for row in standing.paybacks)
                    for verdict in ("paid", "did_not_pay", "undecided")
                },
                "did_it_pay": build_table(standing.paybacks),
                "open_causes": build_table(waiting),
                "seconds_from_verdict_to_answer": build_table(standing.delays),
                **{
                    f"{row['line']}_judged_to_answered_seconds": row["judged_to_answered_seconds"] for row in standing.delays
                },
            },
        )
    ]


def build_table(rows: Sequence[dict[str, Any]]) -> dg.TableMetadataValue:
    """Rows as a table in the UI; values are shown as text or numbers."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    numeric = {name for name in names if all(isinstance(row.get(name, 0), int | float) for row in rows)}
    columns = [dg.TableColumn(name, "float" if name in numeric else "string") for name in names]
    records = [
        dg.TableRecord({name: row.get(name, 0) if name in numeric else str(row.get(name, "")) for name in names})
        for row in rows
    ]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))
