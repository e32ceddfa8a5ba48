"""Small pictures for run pages and asset metadata: the title says the verdict, the drawing why.

Figures are built by matplotlib's object interface (no pyplot, no global state, no display), so that they can be drawn
in any thread; the same input gives the same bytes with the same version of matplotlib.
"""

import base64
import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from factory_assets.contracts.reports import DeliveryReport, DriftReport, FeatureDrift, FreshnessReport, SegmentDrift
from factory_assets.core.metrics import evaluate_metrics

INK, FAINT = "#2b2f36", "#d9dde3"
REFERENCE, CURRENT = "#8fa3b8", "#e07b39"
GOOD, BAD = "#2e7d5b", "#b8352a"
_DPI = 100
_MOST_POINTS = 1500
_MOST_BARS = 12
_FEWEST_BARS = 4
_CALIBRATION_BINS = 10
_WELL_CALIBRATED = 0.05  # Mean gap of predicted and observed share; only words the title, it is no gate.


def plot_calibration(labels: np.ndarray, scores: np.ndarray) -> bytes:
    """Predicted probability against observed share in ten equally filled bins, over a histogram of the predictions.

    Args:
        labels: 0 or 1, shape (n,).
        scores: probabilities, shape (n,).

    Returns:
        A PNG; with no rows, one that says so.
    """
    if len(scores) == 0:
        return nothing_to_show("Calibration: no rows to judge")
    order = np.argsort(scores, kind="stable")
    bins = [part for part in np.array_split(order, _CALIBRATION_BINS) if len(part)]
    predicted = np.array([scores[part].mean() for part in bins])
    observed = np.array([labels[part].mean() for part in bins])
    gap = float(np.average(np.abs(predicted - observed), weights=[len(part) for part in bins]))
    well = gap <= _WELL_CALIBRATED
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    verdict = "Well calibrated" if well else "Poorly calibrated"
    title_axes(upper, f"{verdict}: off by {gap * 100:.1f} points on average", f"{len(scores):,} rows", GOOD if well else BAD)
    upper.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (4, 3)), label="perfect")
    upper.plot(predicted, observed, color=CURRENT, marker="o", markersize=5, linewidth=1.5, label="model")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="observed share")
    upper.legend(frameon=False, fontsize=8, loc="upper left", labelcolor=INK)
    lower.hist(scores, bins=40, range=(0, 1), color=REFERENCE)
    lower.set(xlabel="predicted probability", ylabel="rows", yticks=[])
    _plain(lower)
    return to_png(figure)


def plot_predicted_against_actual(labels: np.ndarray, scores: np.ndarray) -> bytes:
    """Predicted against actual values, evenly thinned to 1,500 points (the figures in the title are over all rows).

    Args:
        labels: actual values, shape (n,).
        scores: predicted values, shape (n,).

    Returns:
        A PNG; with no rows, one that says so.
    """
    if len(scores) == 0:
        return nothing_to_show("Predicted against actual: no rows to judge")
    metrics = evaluate_metrics("regression", labels, scores)
    shown = np.linspace(0, len(scores) - 1, min(len(scores), _MOST_POINTS)).astype(int)
    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axes = figure.subplots()
    explains = metrics["r2"] > 0
    verdict = f"Explains {metrics['r2']:.0%} of the variance" if explains else "No better than the mean"
    title_axes(axes, verdict, f"RMSE {metrics['rmse']:.4g}, {len(scores):,} rows", GOOD if explains else BAD)
    low, high = float(min(labels.min(), scores.min())), float(max(labels.max(), scores.max()))
    margin = (high - low) * 0.03 or 1.0
    limits = (low - margin, high + margin)
    axes.scatter(labels[shown], scores[shown], s=9, color=CURRENT, alpha=0.4, linewidths=0)
    axes.plot(limits, limits, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set(xlim=limits, ylim=limits, xlabel="actual", ylabel="predicted")
    return to_png(figure)


def plot_importance(names: Sequence[str], values: Sequence[float]) -> bytes:
    """The twelve largest importances as bars; undefined ones are left out.

    Args:
        names: feature names.
        values: their importances, as `importance.feature_importance` gives them.

    Returns:
        A PNG; with nothing to show, one that says so.
    """
    pairs = [(name, value) for name, value in zip(names, values, strict=True) if np.isfinite(value)]
    largest = sorted(pairs, key=lambda pair: -pair[1])[:_MOST_BARS]
    if not largest:
        return nothing_to_show("Importance: nothing to show")
    figure = Figure(figsize=(5.6, 1.1 + 0.26 * max(len(largest), _FEWEST_BARS)), layout="constrained")
    axes = figure.subplots()
    more = f"the first {len(largest)} of {len(pairs)} features" if len(pairs) > len(largest) else ""
    title_axes(axes, f"{clip(largest[0][0])} matters most", more, INK)
    draw_bars(axes, [name for name, _ in largest], [value for _, value in largest], [CURRENT] * len(largest))
    axes.set_xlabel("increase of the error when shuffled")
    return to_png(figure)


def plot_drift(report: DriftReport, most: int = 4) -> bytes:
    """Effects of the worst segment's features in thresholds, and the bins of the worst `most` of them, then and now.

    Where nothing drifted, of the worst one alone.

    Returns:
        A PNG; without features, one that says so.
    """
    worst = sorted(report.features, key=lambda feature: -feature.severity)
    if not worst:
        return nothing_to_show("Drift: no features to compare")
    # Checks mostly pass, and each further feature is a tenth of a second of drawing: then the likeliest one is enough.
    detailed = worst[: max(most, 1)] if report.drifted_features else worst[:1]
    rows = (len(detailed) + 1) // 2
    figure = Figure(figsize=(9.0, max(3.0, 0.6 + 1.75 * rows)), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[2, 3])[0]
    axes = left.subplots()
    count = len(report.drifted_features)
    verdict = f"{count or 'None'} of {len(worst)} features drifted"
    if len(worst) == 1:
        verdict = f"{worst[0].feature} {'drifted' if count else 'did not drift'}"
    segment = report.segments[0]
    if len(report.segments) > 1:
        verdict = f"{len(report.failing_segments)} of {len(report.segments)} segments drifted"
    colour = BAD if count else GOOD
    if not report.judged:
        verdict, colour = "Not judged: too few rows", INK
    title_axes(axes, verdict, _shown_rows(report, segment), colour)
    bars = worst[:_MOST_BARS]
    draw_bars(axes, [f.feature for f in bars], [f.severity for f in bars], [BAD if f.drifted else REFERENCE for f in bars])
    axes.axvline(1.0, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_xlabel("effect in thresholds (dashed: 1)")
    handles = [Patch(color=REFERENCE, label="reference"), Patch(color=CURRENT, label="current")]
    right.legend(handles=handles, loc="outside upper right", ncols=2, frameon=False, fontsize=8, labelcolor=INK)
    panels = right.subplots(rows, min(len(detailed), 2), squeeze=False).ravel()
    for position, panel in enumerate(panels):
        if position < len(detailed):
            _draw_shares(panel, detailed[position])
        else:
            panel.set_axis_off()
    return to_png(figure)


def plot_freshness(report: FreshnessReport) -> bytes:
    """The lag as a bar against its limit."""
    hours = (report.lag_seconds or 0.0) / 3600
    limit = report.limit_seconds / 3600
    unit, divisor = ("days", 24.0) if max(hours, limit) >= 72 else ("hours", 1.0)
    figure = Figure(figsize=(5.6, 1.5), layout="constrained")
    axes = figure.subplots()
    colour = GOOD if report.fresh else BAD
    if report.newest_utc is None:
        title_axes(axes, "Not fresh: nothing was ever reported", "", colour)
    else:
        verdict = "Fresh" if report.fresh else "Stale"
        shown = f"{hours / divisor:.1f} {unit} old, limit {limit / divisor:g}"
        title_axes(axes, f"{verdict}: {shown}", f"newest {report.newest_utc:%Y-%m-%d %H:%M} UTC", colour)
    axes.barh([0], [hours / divisor], color=colour, height=0.55)
    axes.axvline(limit / divisor, color=INK, linewidth=1.2)
    axes.set(yticks=[], xlim=(0, max(hours, limit) / divisor * 1.1), xlabel=f"lag in {unit} (line: limit)")
    axes.spines["left"].set_visible(False)
    return to_png(figure)


def plot_delivery(report: DeliveryReport | None) -> bytes:
    """Scored rows of the day that is due, as a bar against its rows; None when no day is."""
    figure = Figure(figsize=(5.6, 1.5), layout="constrained")
    axes = figure.subplots()
    if report is None:
        title_axes(axes, "No day is due yet", "", GOOD)
        axes.set(yticks=[], xticks=[])
        return to_png(figure)
    colour = GOOD if report.delivered else BAD
    verdict = "Delivered" if report.delivered else "Overdue"
    shown = f"{verdict}: {report.scored_rows:,} of {report.feature_rows:,} rows"
    title_axes(axes, shown, f"{report.day}, due {report.due_utc:%Y-%m-%d %H:%M} UTC", colour)
    axes.barh([0], [report.scored_rows], color=colour, height=0.55)
    axes.axvline(report.feature_rows, color=INK, linewidth=1.2)
    most = max(report.feature_rows, report.scored_rows, 1)
    axes.set(yticks=[], xlim=(0, most * 1.1), xlabel="scored rows (line: rows of the day)")
    axes.spines["left"].set_visible(False)
    return to_png(figure)


def image_markdown(png: bytes, alt: str) -> str:
    """The picture inside a line of markdown, as a data URI: it needs no file and no server.

    >>> image_markdown(b"png", "drift [7d]")
    '![drift (7d)](data:image/png;base64,cG5n)'
    """
    words = " ".join(alt.replace("[", "(").replace("]", ")").split())
    return f"![{words}](data:image/png;base64,{base64.b64encode(png).decode()})"


def _shown_rows(report: DriftReport, segment: SegmentDrift) -> str:
    where = f"worst: {clip(segment.segment)}, " if len(report.segments) > 1 else ""
    return f"{where}{segment.current_rows:,} rows against {segment.reference_rows:,}"


def _draw_shares(axes: Axes, feature: FeatureDrift) -> None:
    """Bars of the bins that hold anything, side by side; of many bins, the fullest dozen in their own order."""
    reference, current = np.array(feature.reference_share), np.array(feature.current_share)
    kept = np.flatnonzero((reference > 0) | (current > 0))
    kept = np.sort(kept[np.argsort(-np.maximum(reference, current)[kept], kind="stable")][:_MOST_BARS])
    places = np.arange(len(kept))
    axes.bar(places - 0.2, reference[kept] * 100, width=0.4, color=REFERENCE)
    axes.bar(places + 0.2, current[kept] * 100, width=0.4, color=CURRENT)
    axes.set_xticks(places, [clip(feature.bin_labels[i], 12) for i in kept], rotation=40, ha="right", rotation_mode="anchor")
    axes.set_title(
        f"{clip(feature.feature)} · {feature.measure} {feature.effect:.2f}",
        fontsize=9,
        color=BAD if feature.drifted else INK,
        loc="left",
        y=1.0,
    )
    axes.set_ylabel("% of rows")
    _plain(axes, size=6.5)


def draw_bars(axes: Axes, names: Sequence[str], values: Sequence[float], colours: Sequence[str]) -> None:
    """Named bars from the top down."""
    places = np.arange(len(names))
    axes.barh(places, values, color=colours, height=0.65)
    axes.set_yticks(places, [clip(name) for name in names])
    axes.set_ylim(max(len(names), _FEWEST_BARS) - 0.5, -0.5)  # Downwards; a single bar does not fill the picture.


def title_axes(axes: Axes, verdict: str, detail: str, colour: str) -> None:
    """The verdict in its colour, the detail small below it."""
    # Told its height, a title does not look for room above the axes, which measures all labels once more.
    axes.set_title(verdict, fontsize=11, fontweight="bold", color=colour, loc="left", pad=18 if detail else 8, y=1.0)
    if detail:
        axes.annotate(detail, (0, 1), (0, 5), "axes fraction", "offset points", fontsize=8.5, color=INK)
    _plain(axes)


def _plain(axes: Axes, size: float = 8) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(labelsize=size, color=FAINT, labelcolor=INK, length=3)
    axes.xaxis.label.set(fontsize=8.5, color=INK)
    axes.yaxis.label.set(fontsize=8.5, color=INK)


def clip(text: str, most: int = 24) -> str:
    """Shortened, and with dollar signs escaped: matplotlib would read formulas between them."""
    short = text if len(text) <= most else text[: most - 1] + "…"
    return short.replace("$", r"\$")


def nothing_to_show(words: str) -> bytes:
    """A PNG of one sentence."""
    figure = Figure(figsize=(5.6, 0.8))
    figure.text(0.5, 0.5, words, ha="center", va="center", fontsize=10, color=INK)
    return to_png(figure)


def to_png(figure: Figure) -> bytes:
    """64 colours are enough for flat drawings, and a third of the bytes: these are kept inside run metadata.

    Drawn once: `savefig` draws a figure with a layout twice, and would write a first PNG only to be read again.
    """
    figure.set_dpi(_DPI)
    pixels, size = FigureCanvasAgg(figure).print_to_buffer()  # type: ignore[no-untyped-call]
    small = io.BytesIO()
    Image.frombuffer("RGBA", size, pixels).convert("RGB").quantize(64).save(small, format="PNG", optimize=True)
    return small.getvalue()
