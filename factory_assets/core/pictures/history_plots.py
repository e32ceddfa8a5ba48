"""Pictures of what came one after the other: the batches of a source, the trainings of a fleet."""

from collections.abc import Collection, Sequence
from datetime import date

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from factory_assets.contracts.reports import TrainingCount
from factory_assets.core.pictures.plots import BAD, GOOD, INK, REFERENCE, nothing_to_show, title_axes, to_png

MOST_BATCHES = 28
MOST_TRAININGS = 12
_ROOM = (0.11, 0.17, 0.86, 0.6)  # reckoned, for a layout would take longer than the drawing


def plot_batches(rows: Sequence[tuple[date, int]], held: Collection[date]) -> bytes:
    """Rows of the newest `MOST_BATCHES` days, held ones red; a held day without rows is a cross.

    Returns:
        A PNG; without any day, one that says so.
    """
    counts = dict(rows)
    days = sorted({*counts, *held})[-MOST_BATCHES:]
    if not days:
        return nothing_to_show("Batches: none has come yet")
    figure = Figure(figsize=(6.4, 2.1))
    axes = figure.add_axes(_ROOM)
    verdict = f"{len(held)} {'day is' if len(held) == 1 else 'days are'} held" if held else "No day is held"
    title_axes(axes, verdict, "rows by day" + ("; red: held, cross: without rows" if held else ""), BAD if held else GOOD)
    sizes = [counts.get(day, 0) for day in days]
    axes.bar(range(len(days)), sizes, width=0.75, color=[BAD if day in held else REFERENCE for day in days])
    empty = [place for place, day in enumerate(days) if day in held and not counts.get(day)]
    axes.scatter(empty, [0.05 * max(sizes)] * len(empty), marker="x", s=28, color=BAD)
    _name_days(axes, days, MOST_BATCHES, every=7)
    axes.set_ylim(0, max(*sizes, 1) * 1.08)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.locator_params(axis="y", nbins=3, integer=True)
    return to_png(figure)


def plot_trainings(trainings: Sequence[TrainingCount], failing: int) -> bytes:
    """Segments that failed in each of the newest `MOST_TRAININGS`, oldest first; `failing` are those that wait to be mended.

    Returns:
        A PNG; without any training, one that says so.
    """
    shown = trainings[-MOST_TRAININGS:]
    if not shown:
        return nothing_to_show("Trainings: there was none yet")
    figure = Figure(figsize=(6.4, 2.1))
    axes = figure.add_axes((0.03, _ROOM[1], 0.94, _ROOM[3]))
    verdict = f"{failing:,} {'segment' if failing == 1 else 'segments'} failing" if failing else "No segment failing"
    title_axes(axes, verdict, "failed of tried, by training", BAD if failing else GOOD)
    axes.bar(range(len(shown)), [training.failed for training in shown], width=0.75, color=BAD)
    for place, training in enumerate(shown):
        axes.annotate(
            f"{training.failed:,} of {training.tried:,}",
            (place, training.failed),
            (0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=7,
            color=BAD if training.failed else INK,
        )
    axes.set(yticks=[], ylim=(0, max(training.failed for training in shown) * 1.2 or 1))
    axes.spines["left"].set_visible(False)
    _name_days(axes, [training.day for training in shown], MOST_TRAININGS, every=1)
    return to_png(figure)


def _name_days(axes: Axes, days: Sequence[date], most: int, every: int) -> None:
    """Every so many days from the last one back. Few bars stay as narrow as many."""
    places = range(len(days) - 1, -1, -every)
    axes.set_xticks(places, [f"{days[place]:%b} {days[place].day}" for place in places])
    axes.set_xlim(-0.6, max(len(days), most // 2) - 0.4)
