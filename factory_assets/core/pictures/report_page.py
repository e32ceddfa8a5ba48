"""The drift report of a line as one HTML page that needs nothing else: no server, no network, no other file.

Whatever comes from data (segments, categories, summaries) is escaped: plotly reads markup in labels as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from typing import Any

import pandas as pd

from factory_assets.contracts.reports import FeatureDrift

_MOST_SEGMENTS = 60
_MOST_FEATURES = 6
_MOST_ROWS = 50
_LONGEST_LABEL = 32
_CURRENT, _REFERENCE, _GOOD, _BAD = "#d55e00", "#0072b2", "#2b7a3d", "#b3261e"


@dataclass(frozen=True)
class ReportContent:
    """What the page shows.

    Attributes:
        line: the model line.
        champion: the version that serves, 0 for none.
        written_at_utc: factory time.
        checks: the newest verdict of each check: check, passed, summary, evaluated_at_utc.
        drift: rows of `ops/drift`: check, segment, feature, window_end_utc, effect, threshold, segment_drifted,
            current_rows.
        distributions: by segment, the features of the newest window beside the reference, worst first.
        quality: series over time: series, at_utc, value.
    """

    line: str
    champion: int
    written_at_utc: datetime
    checks: pd.DataFrame
    drift: pd.DataFrame
    distributions: Mapping[str, Sequence[FeatureDrift]] = field(default_factory=dict)
    quality: pd.DataFrame = field(default_factory=pd.DataFrame)


def build_report(content: ReportContent) -> str:
    """The whole page; its script (plotly, 4.5 MB) stands in it once."""
    from plotly.offline import get_plotlyjs

    drift = _with_severity(content.drift)
    figures = [
        ("Worst segments over the days", _heat_map(drift, "segment") if _is_fleet(drift) else None),
        ("Features over the days", _heat_map(drift, "feature")),
        *(
            (f"Distributions, reference against current{_of_segment(content, segment)}", _distributions(features))
            for segment, features in content.distributions.items()
        ),
        ("Quality over time", _quality(content.quality)),
    ]
    sections = [
        _section(title, _embed(figure, f"figure{n}")) for n, (title, figure) in enumerate(figures) if figure is not None
    ]
    title = escape(f"{content.line}: drift report")
    serving = f"champion v{content.champion}" if content.champion else "no champion yet"
    return "".join(
        [
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>',
            f"<script>{get_plotlyjs()}</script></head><body><main><h1>{title}</h1>",
            f"<p>{escape(serving)}, as of {_moment(content.written_at_utc)} UTC by the factory's clock.</p>",
            _section("Checks", _checks_table(content.checks)),
            _section("Worst first", _worst_table(drift)),
            *sections,
            "</main></body></html>",
        ]
    )


def _of_segment(content: ReportContent, segment: str) -> str:
    return f": {segment}" if len(content.distributions) > 1 else ""


def _with_severity(drift: pd.DataFrame) -> pd.DataFrame:
    """The effect in thresholds, so that features of different measures stand in one order."""
    if drift.empty:
        return drift
    return drift.assign(severity=drift["effect"] / drift["threshold"], day=drift["window_end_utc"].dt.strftime("%Y-%m-%d"))


def _is_fleet(drift: pd.DataFrame) -> bool:
    return not drift.empty and drift["segment"].nunique() > 1


def _checks_table(checks: pd.DataFrame) -> str:
    if checks.empty:
        return "<p>No check has been evaluated yet.</p>"
    rows = "".join(
        _row(
            "passed" if row["passed"] else "failed",
            bool(row["passed"]),
            row["check"],
            row["summary"],
            _moment(row["evaluated_at_utc"]),
        )
        for row in checks.sort_values(["passed", "check"]).to_dict("records")
    )
    return _table(("verdict", "check", "what it says", "evaluated, UTC"), rows)


def _worst_table(drift: pd.DataFrame) -> str:
    if drift.empty:
        return "<p>Nothing has been compared yet: there is no champion, or no window with enough rows.</p>"
    newest = drift[drift["window_end_utc"] == drift.groupby("check")["window_end_utc"].transform("max")]
    worst = newest.sort_values(["segment_drifted", "severity"], ascending=False)
    rows = "".join(
        _row(
            "drifted" if row["segment_drifted"] else "as before",
            not row["segment_drifted"],
            row["segment"],
            row["feature"],
            row["check"],
            f"{row['effect']:.4g}",
            f"{row['threshold']:.4g}",
            f"{row['current_rows']:,}",
        )
        for row in worst.head(_MOST_ROWS).to_dict("records")
    )
    more = f"<p>{len(worst) - _MOST_ROWS:,} more are in ops/drift.</p>" if len(worst) > _MOST_ROWS else ""
    return _table(("verdict", "segment", "feature", "check", "effect", "limit", "rows"), rows) + more


def _table(head: Sequence[str], rows: str) -> str:
    return f"<table><tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>{rows}</table>"


def _row(verdict: str, good: bool, *cells: Any) -> str:
    rest = "".join(f"<td>{escape(str(cell))}</td>" for cell in cells)
    return f'<tr><td class="{"good" if good else "bad"}">{verdict}</td>{rest}</tr>'


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M")


def _heat_map(drift: pd.DataFrame, by: str) -> Any:
    """The worst effect of each segment or feature on each day, in limits: 1 is the limit."""
    import plotly.graph_objects as go

    if drift.empty:
        return None
    table = drift.pivot_table(index=by, columns="day", values="severity", aggfunc="max")
    newest_first = table.iloc[:, -1].fillna(-1).sort_values(ascending=False).index[:_MOST_SEGMENTS]
    shown = table.loc[newest_first[::-1]]
    heat = go.Heatmap(
        z=shown.to_numpy(),
        x=list(shown.columns),
        y=[_label(name) for name in shown.index],
        zmin=0,
        zmax=2,
        colorscale=[[0, "#f2f5f8"], [0.5, "#f3c58b"], [1, _BAD]],
        colorbar={"title": {"text": "effect / limit"}},
        hovertemplate="%{y}<br>%{x}<br>%{z:.2f} of the limit<extra></extra>",
    )
    figure = go.Figure(heat)
    figure.update_layout(
        height=120 + 18 * len(shown), xaxis={"type": "category"}, yaxis={"type": "category", "automargin": True}
    )
    return figure


def _distributions(features: Sequence[FeatureDrift]) -> Any:
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    shown = sorted(features, key=lambda found: -found.severity)[:_MOST_FEATURES]
    if not shown:
        return None
    titles = [f"{_label(f.feature)}: {f.measure} {f.effect:.3g} of {f.threshold:.3g}" for f in shown]
    rows = (len(shown) + 1) // 2
    figure = make_subplots(rows=rows, cols=2, subplot_titles=titles, vertical_spacing=0.3 / rows)
    for position, feature in enumerate(shown):
        labels = [_label(label) for label in feature.bin_labels]
        for name, shares, colour in (
            ("reference", feature.reference_share, _REFERENCE),
            ("current", feature.current_share, _CURRENT),
        ):
            bar = go.Bar(
                x=labels, y=list(shares), name=name, legendgroup=name, marker_color=colour, showlegend=position == 0
            )
            bar.hovertemplate = f"{name} %{{x}}: %{{y:.1%}}<extra></extra>"
            figure.add_trace(bar, row=position // 2 + 1, col=position % 2 + 1)
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    figure.update_xaxes(type="category")
    figure.update_layout(height=320 * rows, barmode="group", legend={"orientation": "h", "y": -0.25})
    return figure


def _quality(quality: pd.DataFrame) -> Any:
    import plotly.graph_objects as go

    if quality.empty:
        return None
    figure = go.Figure()
    for name, points in quality.sort_values("at_utc").groupby("series"):
        moments = [moment.isoformat() for moment in points["at_utc"]]
        figure.add_trace(go.Scatter(x=moments, y=list(points["value"]), name=_label(name), mode="lines+markers"))
    figure.update_layout(height=360)
    return figure


def _embed(figure: Any, identity: str) -> str:
    figure.update_layout(margin={"l": 60, "r": 20, "t": 40, "b": 50}, font={"family": "sans-serif"}, plot_bgcolor="#ffffff")
    return str(figure.to_html(full_html=False, include_plotlyjs=False, div_id=identity, config={"displaylogo": False}))


def _label(value: Any) -> str:
    """Text for a plot: plotly takes `<b>` and `<a href>` for markup, so that it gets no angle bracket."""
    text = str(value)
    return escape(text if len(text) <= _LONGEST_LABEL else f"{text[:_LONGEST_LABEL]}…", quote=False)


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


_STYLE = f"""
body {{ margin: 0; background: #f4f6f8; color: #1c2733; font: 15px/1.5 sans-serif; }}
main {{ max-width: 1200px; margin: 0 auto; padding: 24px; }}
h1 {{ font-size: 26px; margin: 0 0 4px; }} h2 {{ font-size: 18px; margin: 0 0 12px; }}
section {{ background: #fff; border: 1px solid #dde3e9; border-radius: 8px; padding: 18px; margin: 18px 0;
  overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; }} th {{ text-align: left; color: #5a6775; font-weight: 600; }}
th, td {{ padding: 5px 10px 5px 0; border-bottom: 1px solid #edf0f3; vertical-align: top; }}
.good {{ color: {_GOOD}; font-weight: 600; }} .bad {{ color: {_BAD}; font-weight: 600; }}
"""
