"""What is missing: values by the combination of columns that lack them."""

from collections.abc import Sequence
from statistics import median

from factory_assets.contracts.incidents import BatchProfile, Finding
from factory_assets.contracts.source import IncidentSpec
from factory_assets.core.incidents.history import History

_FAMILIAR = 1 / 3  # A combination of missing values seen on a third of the days belongs to the feed.
_MOSTLY = 0.75  # Even a familiar one does not take three quarters of a day. (The worst storm of a real year: 57%.)


def find_null_bursts(batch: BatchProfile, history: History, spec: IncidentSpec) -> list[Finding]:
    """Values missing in a combination of columns that the feed does not know, or far oftener than it ever did."""
    findings = []
    past = [(history.missing_together(day), max(1, day.rows)) for day in history.days]
    for pattern, rows in history.missing_together(batch).items():
        before = [missing.get(pattern, 0) / day_rows for missing, day_rows in past]
        most = max(before)
        familiar = sum(share > 0 for share in before) >= _FAMILIAR * len(before)
        limit = max(_MOSTLY, most + spec.null_jump) if familiar else most + spec.null_jump
        share = rows / max(1, batch.rows)
        if share > limit:
            columns = pattern.replace(",", ", ")
            expected = f"at most {limit:.0%} of the rows without {columns} (only)"
            blamed = _emptied(pattern.split(","), batch, history)
            findings.append(Finding("null_burst", blamed, rows, expected, f"{share:.0%}"))
    blamed_columns = {finding.column for finding in findings}
    for column in batch.columns:
        usual = median(day.null_share for day in history.columns.get(column.column, ())) if history.days else 1.0
        if column.null_share >= 0.95 and usual < 0.5 and column.column not in blamed_columns and column.rows:
            found = f"{column.null_share:.0%}"
            findings.append(
                Finding("null_burst", column.column, column.nulls, f"about {usual:.0%} of the rows without it", found)
            )
    return findings


def _emptied(pattern: Sequence[str], batch: BatchProfile, history: History) -> str:
    """The column of a combination that gained the most missing values."""

    def gain(name: str) -> float:
        now = batch.column(name)
        before = [day.null_share for day in history.columns.get(name, ())]
        return (now.null_share if now else 0.0) - (median(before) if before else 0.0)

    return max(pattern, key=gain)
