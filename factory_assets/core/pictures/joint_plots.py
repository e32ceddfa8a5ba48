"""The picture of the joint distribution: how far apart a classifier puts both sides, and by which features."""

import numpy as np
from matplotlib.figure import Figure

from factory_assets.contracts.reports import JointReport
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

_MOST_BARS = 8


def plot_joint(report: JointReport) -> bytes:
    """Scores of both sides, the area beside those of training's own windows, and what of it each feature carries.

    Returns:
        A PNG; without a verdict, one that says so.
    """
    if not report.judged:
        return nothing_to_show("Joint distribution: not judged")
    figure = Figure(figsize=(9.0, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[3, 2, 3])
    colour = BAD if report.exceeded else GOOD
    verdict = "Told apart from training" if report.exceeded else "As at training"
    title_axes(left, verdict, f"{report.current_rows:,} rows against {report.reference_rows:,}", colour)
    places = (np.arange(len(report.reference_share)) + 0.5) / max(len(report.reference_share), 1)
    for shares, shade, name in (
        (report.reference_share, REFERENCE, "reference"),
        (report.current_share, CURRENT, "current"),
    ):
        left.step(places, 100 * np.array(shares), where="mid", color=shade, linewidth=1.6, label=name)
    left.legend(frameon=False, fontsize=8, labelcolor=INK)
    left.set(xlabel="classifier's score: 1 is the newest window", ylabel="% of rows")
    title_axes(middle, f"Area {report.auc:.3f}", f"limit {report.size:g}", colour)
    middle.plot([0] * len(report.own_aucs), report.own_aucs, "o", color=REFERENCE, markersize=5)
    middle.plot([1], [report.auc], "o", color=CURRENT, markersize=7)
    middle.axhline(report.size, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    middle.set_xticks([0, 1], ["training's\nown windows", "newest\nwindow"])
    middle.set_xlim(-0.6, 1.6)
    shown = [pair for pair in report.importance[:_MOST_BARS] if pair[1] > 0]
    title_axes(right, "By these features", "area lost when shuffled", INK)
    draw_bars(right, [name for name, _ in shown], [loss for _, loss in shown], [CURRENT] * len(shown))
    return to_png(figure)
