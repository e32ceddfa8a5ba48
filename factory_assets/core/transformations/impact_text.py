"""An impact report as Markdown, for a terminal and for a comment on a merge request."""

from collections.abc import Sequence

from factory_assets.contracts.impact import ImpactReport, LineImpact, ModelChange, TableDiff

_MOST_COLUMNS = 12
_MOST_REASONS = 3


def render_markdown(report: ImpactReport) -> str:
    """The report as Markdown with tables; a sentence when nothing changes."""
    parts = [f"## Impact, compared with {report.compared_with}"]
    if report.is_empty:
        parts.append("No model changes its meaning.")
    else:
        parts.append(_table(["table", "change", "columns", "why"], [_model(change) for change in report.models]))
        parts.append("### Rows")
        parts.append(_rows(report.diffs))
        parts.append("### Model lines")
        parts.append(_lines(report.lines, report.models))
    if report.notes:
        parts += ["### Notes", "\n".join(f"- {note}" for note in report.notes)]
    return "\n\n".join(parts) + "\n"


def _model(change: ModelChange) -> list[str]:
    if change.rows and change.kind in ("changed", "affected"):
        columns = f"all {len(change.columns)}" if change.columns else "all"
    else:
        columns = _listed([f"`{name}`" for name in change.columns])
    why = list(change.reasons)
    if not change.rows:
        by_reason: dict[str, list[str]] = {}
        for column, reason in change.columns.items():
            by_reason.setdefault(reason, []).append(f"`{column}`")
        told = sorted(by_reason.items())[:_MOST_REASONS]
        why += [reason if len(by_reason) == 1 else f"{_listed(names)} {reason}" for reason, names in told]
    return [f"`{change.table}`", change.kind, columns, "; ".join(why)]


def _rows(diffs: Sequence[TableDiff]) -> str:
    if not diffs:
        return "No rows were compared."
    rows = []
    for diff in diffs:
        columns = _listed([f"`{name}` {count:,}" for name, count in diff.changed_columns.items()])
        samples = "; ".join(f"{kind}: {' / '.join(keys[:3])}" for kind, keys in diff.samples.items())
        counts = [f"{number:,}" for number in (diff.rows_before, diff.rows_after, diff.added, diff.removed, diff.changed)]
        rows.append([f"`{diff.table}`", ", ".join(diff.key) or "none", *counts, columns, samples or diff.note])
    names = ["table", "key", "before", "after", "added", "removed", "changed", "changed in column", "for example"]
    return _table(names, rows)


def _lines(lines: Sequence[LineImpact], models: Sequence[ModelChange]) -> str:
    if not lines:
        return "No model line reads an affected column."
    gone = {
        (change.table.rpartition(".")[2], column)
        for change in models
        for column, reason in change.columns.items()
        if reason == "removed"
    }
    rows = []
    for line in lines:
        cost = "never trained" if line.cost is None else f"{line.cost.seconds:,.0f} s ({line.cost.source} {line.cost.runs})"
        reads = ["the rows"] if line.rows else []
        reads += [f"label {_listed(line.label)}"] if line.label else []
        reads += [f"keys {_listed(line.keys)}"] if line.keys and not line.rows else []
        lost = [f"`{name}`" for name in line.features if (line.feature_set, name) in gone]
        reads += [f"its champion cannot score without {_listed(lost)}: keep it until the next one"] if lost else []
        features = "all" if line.rows else _listed([f"`{name}`" for name in line.features])
        rows.append([f"`{line.line}`", f"`{line.feature_set}`", features, ", ".join(reads), cost])
    return _table(["line", "feature set", "features", "also", "a retrain took"], rows)


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_COLUMNS} more" if len(names) > _MOST_COLUMNS else ""
    return ", ".join(names[:_MOST_COLUMNS]) + more
