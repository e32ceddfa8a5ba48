"""A year of flights under every policy, for both lines that are models of all rows; the README's tables come from here."""

import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import dagster as dg
from rich.console import Console
from threadpoolctl import threadpool_limits

from benchmarks.figures import RESULTS, Figure, at_most
from factory_assets.backtest_command import write_report
from factory_assets.components.model_line.retraining import newest_instant
from factory_assets.components.naming import DAILY_JOB, range_tags
from factory_assets.contracts.backtest import BacktestReport
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.core.training.fit import fit_and_evaluate
from factory_assets.core.training.segment_training import split_segment
from factory_assets.definitions import build_definitions
from factory_assets.demo.flights import open_flight_data
from factory_assets.demo.replay import Replay
from factory_assets.installation import load_calendar, load_lines, prepare_dagster_home
from factory_assets.lines.backtesting.backtest import Backtest, Plan
from factory_assets.lines.stores import LineStores
from factory_assets.settings import FactorySettings
from factory_assets.storage.artefact_store import ArtefactStore
from factory_assets.storage.clock import FactoryClock
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.mlflow.registry import MlflowRegistry

LINES = ("arrival_delay", "departure_volume")
FIVE = ("never", "weekly", "monthly", "on_drift", "on_quality")
_MORE = ("own", "keep_up", "daily")
REPORTS = RESULTS / "backtest"
PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
_YEAR = (date(2013, 1, 1), date(2013, 12, 31))
# What `factory backtest` imports before it has read anything.
_IMPORTS = (
    "import factory_assets.cli, factory_assets.components.model_line.retraining, factory_assets.lines.backtesting.backtest"
)
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def measure_backtest(console: Console, rounds: int) -> list[Figure]:
    """Both lines over the year, once whatever the rounds: its daily fits alone take a third of an hour of CPU."""
    figures = []
    with tempfile.TemporaryDirectory(prefix="factory-backtest-") as folder:
        settings = FactorySettings(data_dir=Path(folder))
        console.print("the year 2013: landed, and through dbt")
        build_year(settings)
        calendar = load_calendar(settings)
        lines = {line.name: line for line in load_lines(settings)}
        for name in LINES:
            if calendar is not None:
                figures += _measure_line(console, settings, calendar, lines[name])
    return figures


def build_year(settings: FactorySettings) -> None:
    """Lands every day of the year, and runs the daily job over all of them; no model is trained.

    Raises:
        RuntimeError: when the job fails.
    """
    prepare_dagster_home(settings)
    Replay(open_flight_data(), settings.landing, FactoryClock(settings.clock)).land(*_YEAR)
    definitions = build_definitions(settings.project_dir / "factory_assets", settings)
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        result = definitions.resolve_job_def(DAILY_JOB).execute_in_process(
            run_config=_QUIET, instance=instance, tags=range_tags(*map(str, _YEAR)), raise_on_error=False
        )
    if not result.success:
        raise RuntimeError(f"run {result.run_id} of {DAILY_JOB} failed")


def _measure_line(console: Console, settings: FactorySettings, calendar: CalendarSpec, spec: ModelLineSpec) -> list[Figure]:
    registry = MlflowRegistry("sqlite:////nowhere", "/nowhere")
    stores = LineStores(spec, Lake(settings.lake), ArtefactStore(settings.models), registry)
    started = time.process_time()
    plan = Plan((*FIVE, *_MORE), "daily", price_per_cpu_hour=settings.price_per_cpu_hour)
    backtest = Backtest.open(stores, calendar, plan, newest_instant)
    for name in FIVE:
        console.print(f"{spec.name}: {name}")
        backtest.play(name)
    backtest.compare("never")
    spent, fits = time.process_time() - started + _import_seconds(), backtest.trainings.fits
    bare = _fit_bare(backtest)
    for name in _MORE:
        console.print(f"{spec.name}: {name}")
        backtest.play(name)
    report = backtest.compare("daily")
    picture, _ = write_report(report, REPORTS)
    PICTURES.mkdir(exist_ok=True)
    shutil.move(picture, PICTURES / f"backtest_{spec.name}.png")
    days = f"{spec.name}, {report.first} to {report.last}"
    how = f"{days}, {fits} fits of {bare:.0f} CPU s; CPU time of one process, its imports included"
    return [
        at_most(f"backtest of five policies over its bare fits, {spec.name}", spent / bare, "x", 1.5, how),
        *_pays(report, "on_drift"),
        *_pays(report, "keep_up"),
    ]


def _import_seconds() -> float:
    """CPU seconds of a process that only imports: this one did so long before, and for other benchmarks as well."""
    script = f"{_IMPORTS}; import time; print(time.process_time())"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return float(done.stdout)


def _fit_bare(backtest: Backtest) -> float:
    """CPU seconds of the distinct fits of the backtest by themselves: the estimator, its dummy and its baseline."""
    spec, validation = backtest.history.spec, backtest.history.spec.validation
    moments = {moment.now: moment for moment in backtest.moments}
    spent = 0.0
    for _, _, now in backtest.trainings.known:
        since = now - validation.holdout - validation.window if validation.window else None
        split = split_segment(spec, backtest.history.learnable(moments[now], since)[0], now)
        before = time.process_time()
        with threadpool_limits(limits=1):
            fit_and_evaluate(spec, split)
        spent += time.process_time() - before
    return spent


def _pays(report: BacktestReport, policy: str) -> list[Figure]:
    difference = next(outcome for outcome in report.policies if outcome.policy == policy).difference
    if difference is None:
        raise LookupError(f"{policy} was compared with nothing")
    interval = f"gain {difference.gain:+.4f} ({difference.low:+.4f} to {difference.high:+.4f}) in {report.metric}"
    how = f"{report.line}, {report.rows:,} rows from {report.first} to {report.last}; {interval}"
    return [
        Figure(
            f"cost saved under {policy} against daily, {report.line}",
            100 * difference.cost_saved,
            "%",
            how,
            "at least 20 %",
            difference.cost_saved >= 0.2,
        ),
        Figure(
            f"quality under {policy} against daily, {report.line}: upper end of the interval on the gain",
            difference.high,
            report.metric,
            how,
            "at least 0: no loss beyond doubt",
            difference.high >= 0,
        ),
    ]
