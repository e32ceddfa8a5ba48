"""The outcome of a backtest as a table of text: the same on the console, in a file and in the README."""

from factory_assets.contracts.backtest import BacktestReport, PolicyOutcome

COLUMNS = ("policy", "retrains", "promoted", "quality", "gain", "95% interval", "CPU s", "price", "saved")


def list_cells(report: BacktestReport) -> list[tuple[str, ...]]:
    """One row of text a policy, in the order of `COLUMNS`; gain and saving against the policy that has none."""
    return [_cells(outcome) for outcome in report.policies]


def describe_stretch(report: BacktestReport) -> str:
    """What was replayed, in a sentence."""
    better = "higher" if report.higher_is_better else "lower"
    return (
        f"{report.line}, first trained at the end of {report.first}, judged on {report.rows:,} rows up to {report.last}; "
        f"quality is {report.metric}, {better} is better."
    )


def _cells(outcome: PolicyOutcome) -> tuple[str, ...]:
    difference = outcome.difference
    cpu = outcome.training_cpu_seconds + outcome.scoring_cpu_seconds
    return (
        outcome.policy,
        str(len(outcome.retrains)),
        str(outcome.promotions),
        f"{outcome.value:.4f}",
        f"{difference.gain:+.4f}" if difference else "",
        f"{difference.low:+.4f} to {difference.high:+.4f}" if difference else "",
        f"{cpu:,.0f}",
        f"{outcome.price:.4f}",
        f"{round(difference.cost_saved, 2) + 0.0:.0%}" if difference else "",
    )
