"""The picture of a backtest: quality over time with the promotions on it, and what each policy cost."""

from itertools import cycle, islice

from matplotlib.figure import Figure

from factory_assets.contracts.backtest import BacktestReport, PolicyOutcome
from factory_assets.core.pictures.plots import FAINT, INK, draw_bars, nothing_to_show, title_axes, to_png

# Told apart in grey as well, and by the common forms of colour blindness (after Okabe and Ito, 2008).
_COLOURS = ("#8fa3b8", "#0072b2", "#56b4e9", "#2b2f36", "#e07b39", "#009e73", "#cc79a7", "#b59b00")


def plot_backtest(report: BacktestReport) -> bytes:
    """Quality by week above, one line a policy, a dot where a new champion took over; CPU seconds below.

    Returns:
        A PNG; without policies, one that says so.
    """
    if not report.policies:
        return nothing_to_show(f"{report.line}: no policy was replayed")
    figure = Figure(figsize=(9.0, 4.2 + 0.26 * len(report.policies)), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=[3.4, 0.5 + 0.26 * len(report.policies)])
    best = (max if report.higher_is_better else min)(report.policies, key=lambda outcome: outcome.value)
    better = "higher" if report.higher_is_better else "lower"
    title_axes(
        upper,
        f"{report.line}: {report.metric} by week, best over all {best.value:.4f} under {best.policy}",
        f"{report.rows:,} rows from {report.first} to {report.last}; {better} is better; dots: new champions",
        INK,
    )
    for outcome, colour in zip(report.policies, cycle(_COLOURS), strict=False):
        _draw_policy(upper, outcome, colour)
    upper.legend(frameon=False, fontsize=8, labelcolor=INK, ncols=len(report.policies), loc="lower left")
    upper.grid(axis="y", color=FAINT, linewidth=0.6)
    upper.set_ylabel(report.metric)
    cpu = [outcome.training_cpu_seconds + outcome.scoring_cpu_seconds for outcome in report.policies]
    title_axes(lower, "CPU seconds of training and scoring", "", INK)
    draw_bars(lower, [outcome.policy for outcome in report.policies], cpu, list(islice(cycle(_COLOURS), len(cpu))))
    return to_png(figure)


def _draw_policy(axes: object, outcome: PolicyOutcome, colour: str) -> None:
    days = [day for day, _ in outcome.weeks]
    values = [value for _, value in outcome.weeks]
    axes.plot(days, values, color=colour, linewidth=1.3, label=outcome.policy)  # type: ignore[attr-defined]
    promoted = [retrain.day for retrain in outcome.retrains if retrain.outcome == "promoted"]
    marks = {place for day in promoted for place in range(len(days)) if days[place] <= day}
    last = {max((p for p in marks if days[p] <= day), default=0) for day in promoted} if days else set()
    at = sorted(last)
    axes.plot([days[p] for p in at], [values[p] for p in at], ".", color=colour, markersize=5)  # type: ignore[attr-defined]
