"""Pictures of a fleet over time: which segments drift, and since when.

Places are reckoned and names drawn as plain text: a layout, or ticks with their labels, would take longer than all the rest.
"""

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from factory_assets.contracts.reports import DriftReport, SegmentDay
from factory_assets.core.pictures.plots import BAD, GOOD, INK, clip, title_axes, to_png

MOST_SEGMENTS = 40
DAYS = 28
# Quarters of the limit, up to twice it: few enough colours for `to_png` to keep each as it is.
_SHADES = ListedColormap(["#f4f6f8", "#e6eaef", "#d5dce4", "#c3cdd8", "#f3c58b", "#e8955a", "#d2603f", BAD])
_WIDTH, _LEFT, _RIGHT, _ABOVE, _BELOW, _ROW = 7.6, 1.75, 0.15, 0.55, 0.3, 0.17  # inches


def plot_segment_days(cells: Sequence[SegmentDay], report: DriftReport, last: date) -> bytes:
    """A row for each segment in the order of `cells`, a column for each of the `DAYS` days up to `last`, shaded by effect.

    Returns:
        A PNG; its title says how many of all segments drifted on the last day.
    """
    places = {segment: place for place, segment in enumerate(dict.fromkeys(cell.segment for cell in cells))}
    first = last - timedelta(days=DAYS - 1)
    rows = max(len(places), 3)
    effects = np.full((rows, DAYS), np.nan)
    for cell in cells:
        effects[places[cell.segment], (cell.day - first).days] = cell.severity
    height = _ABOVE + _BELOW + _ROW * rows
    figure = Figure(figsize=(_WIDTH, height))
    axes = figure.add_axes((_LEFT / _WIDTH, _BELOW / height, 1 - (_LEFT + _RIGHT) / _WIDTH, 1 - (_ABOVE + _BELOW) / height))
    count, of = len(report.failing_segments), len(report.segments)
    verdict = f"{count:,} of {of:,} segments drifted" if count else f"None of {of:,} segments drifted"
    shown = f"the worst {len(places)} over {DAYS} days" if len(places) < of else f"over {DAYS} days"
    title_axes(axes, verdict, f"{shown}; dot: drifted, blank: not judged", BAD if count else GOOD)
    axes.set_axis_off()
    axes.imshow(effects, cmap=_SHADES, vmin=0, vmax=2, aspect="auto", interpolation="nearest")
    drifted = [cell for cell in cells if cell.drifted]
    columns, lines = [(cell.day - first).days for cell in drifted], [places[cell.segment] for cell in drifted]
    axes.scatter(columns, lines, s=7, color="white", linewidths=0)
    axes.set(xlim=(-0.5, DAYS - 0.5), ylim=(rows - 0.5, -0.5))
    for segment, place in places.items():
        axes.text(-0.8, place, clip(segment), ha="right", va="center", fontsize=8, color=INK)
    for days in range(0, DAYS, 7):
        day = last - timedelta(days=days)
        axes.text(DAYS - 1 - days, rows - 0.2, f"{day:%b} {day.day}", ha="center", va="top", fontsize=8, color=INK)
    _draw_scale(figure.add_axes((1 - (_RIGHT + 1.6) / _WIDTH, 1 - 0.3 / height, 1.6 / _WIDTH, 0.12 / height)))
    return to_png(figure)


def _draw_scale(axes: Axes) -> None:
    axes.set_axis_off()
    axes.imshow([range(_SHADES.N)], cmap=_SHADES, aspect="auto", interpolation="nearest")
    for place, words in ((-0.5, "0"), (_SHADES.N / 2 - 0.5, "limit"), (_SHADES.N - 0.5, "2×")):
        axes.text(place, 0.7, words, ha="center", va="top", fontsize=7.5, color=INK)
