"""Pictures of quality against its holdout, with intervals, and of skew by feature."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from factory_assets.contracts.model_line import METRICS
from factory_assets.contracts.reports import QualityReport
from factory_assets.core.pictures.plots import (
    BAD,
    CURRENT,
    GOOD,
    INK,
    REFERENCE,
    draw_bars,
    nothing_to_show,
    title_axes,
    to_png,
)


def plot_quality(report: QualityReport, max_loss: float) -> bytes:
    """Points with two standard errors on either side.

    Returns:
        A PNG; without a verdict, one that says so.
    """
    if not report.judged:
        return nothing_to_show(f"{report.metric}: not judged, too few rows")
    points: list[tuple[str, float, float, str]] = [("on the holdout", report.reference, 0.0, REFERENCE)]
    if report.expected is not None and report.expected_error is not None:
        points.append(("by scores alone", report.expected, report.expected_error, INK))
    if report.realised is not None and report.realised_error is not None:
        points.append(("by known labels", report.realised, report.realised_error, CURRENT))
    figure = Figure(figsize=(5.6, 2.0), layout="constrained")
    axes = figure.subplots()
    better = "higher" if METRICS[report.metric][1] else "lower"
    verdict = f"{report.loss:.0%} of the skill lost" if report.loss > 0 else "No skill lost"
    colour = BAD if report.decayed else GOOD
    title_axes(axes, verdict, f"{report.rows:,} rows, limit {max_loss:.0%}; {better} is better", colour)
    for place, (_, value, error, shade) in enumerate(points):
        axes.errorbar([value], [place], xerr=[2 * error], fmt="o", color=shade, capsize=3)
    axes.set_yticks(range(len(points)), [name for name, *_ in points])
    axes.set_ylim(len(points) - 0.5, -0.5)
    axes.set_xlabel(report.metric)
    return to_png(figure)


def plot_skew(differing: Mapping[str, int], compared: int) -> bytes:
    """Share of the sampled rows whose value differs, by feature, the dozen worst.

    Returns:
        A PNG; with nothing to show, one that says so.
    """
    worst = sorted(differing.items(), key=lambda pair: (-pair[1], pair[0]))[:12]
    if not worst:
        return nothing_to_show(f"Skew: none in {compared:,} sampled rows" if compared else "Skew: no rows to compare")
    figure = Figure(figsize=(5.6, 1.1 + 0.26 * max(len(worst), 4)), layout="constrained")
    axes = figure.subplots()
    title_axes(axes, f"{len(differing)} features differ", f"{compared:,} sampled rows", BAD)
    draw_bars(axes, [name for name, _ in worst], [100 * count / compared for _, count in worst], [BAD] * len(worst))
    axes.set_xlabel("% of sampled rows")
    return to_png(figure)
