"""Plays the demo: history first, then time goes on, and a real daemon's sensors start the retrains.

Every step can be done again. What is done is read from Dagster's record and the lake, never remembered: killed anywhere,
the demo starts again where it stood.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import dagster as dg

from factory_assets.components.model_line.retraining import is_settled
from factory_assets.components.naming import DAILY_JOB, MONITOR_JOB, range_tags, retrain_job
from factory_assets.components.run_states import UNFINISHED
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.retraining import IN_FLIGHT
from factory_assets.demo.flights import open_flight_data
from factory_assets.demo.plan import Plan, Slice
from factory_assets.demo.replay import Replay
from factory_assets.installation import load_lines, prepare_dagster_home
from factory_assets.lines.stores import LineStores
from factory_assets.processes import mark_lost_runs, own_data_folder, start_daemon, stop_dagster
from factory_assets.settings import FactorySettings
from factory_assets.storage.artefact_store import ArtefactStore
from factory_assets.storage.clock import FactoryClock
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.mlflow.registry import MlflowRegistry

STEP_TAG = "factory/demo_step"
_PLAYED = "demo.played"
_LOOKBACK_DAYS = 3
_SETTLE_TIMEOUT_SECONDS = 900
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
Report = Callable[[str], None]


class DemoFailedError(RuntimeError):
    """A step of the demo failed; the message says which, why, and where to look."""


@dataclass
class Demo:
    """One playing of a plan on one data folder."""

    settings: FactorySettings
    plan: Plan
    report: Report
    definitions: dg.Definitions
    instance: dg.DagsterInstance
    lines: list[ModelLineSpec]

    def play(self) -> None:
        """History, then slice after slice; each time every failed check is answered before time goes on.

        The first training is no step of its own: a line that was never trained fails its check of the model's age.
        """
        for run_id in mark_lost_runs(self.instance):
            self.report(f"run {run_id} was cut off before: marked as failed")
        with self.daemon():
            landed = Replay(open_flight_data(), self.settings.landing, FactoryClock(self.settings.clock))
            self.take_in(landed, self.plan.history, "history")
            self.settle()
            for position, days in enumerate(self.plan.slices, 1):
                self.take_in(landed, days, f"slice {position} of {len(self.plan.slices)}")
                self.settle()

    def take_in(self, replay: Replay, days: Slice, title: str) -> None:
        """Lands the days and runs the daily job over them, unless that is done."""
        if self.is_done(days.key):
            return  # judged, which is the last thing done with a slice
        replay.land(days.first, days.last)
        # As the daily schedule does, it looks back for files of closed days that came late.
        first = max(self.plan.history.first, days.first - timedelta(days=_LOOKBACK_DAYS))
        self.run(f"{title}: {days.first} to {days.last}", DAILY_JOB, range_tags(str(first), str(days.last)))
        self.run(f"{title}: judged", MONITOR_JOB, {STEP_TAG: days.key})

    def run(self, title: str, job: str, tags: dict[str, str]) -> None:
        """Runs `job` in this process.

        Raises:
            DemoFailedError: with the steps that failed.
        """
        started = time.monotonic()
        definition = self.definitions.resolve_job_def(job)
        result = definition.execute_in_process(run_config=_QUIET, instance=self.instance, tags=tags, raise_on_error=False)
        if not result.success:
            failed = [event.message for event in result.all_events if event.is_step_failure]
            raise DemoFailedError(f"{title}: run {result.run_id} failed.\n" + "\n".join(str(m) for m in failed))
        verdicts = list(result.get_asset_check_evaluations())
        wrong = [f"{e.asset_key.to_user_string()}:{e.check_name}" for e in verdicts if not e.passed]
        checks = f"{len(verdicts)} checks" + (f", failed: {', '.join(wrong)}" if wrong else ", all passed")
        self.report(f"{title} ({time.monotonic() - started:.0f} s, {checks})")

    def is_done(self, step: str) -> bool:
        """Whether a run of this step succeeded, now or before the demo was killed."""
        done = dg.RunsFilter(tags={STEP_TAG: step}, statuses=[dg.DagsterRunStatus.SUCCESS])
        return self.instance.get_runs_count(done) > 0

    def settle(self) -> None:
        """Waits until the daemon's sensors have answered every failed check.

        Raises:
            DemoFailedError: when that takes too long.
        """
        waiting_since = time.monotonic()
        announced: set[str] = set()
        while True:
            pending = [line.name for line in self.lines if self.is_pending(line)]
            news = [told for line in self.lines for told in self.retrains(line)]
            for text in news:
                if text not in announced:
                    self.report(text)
            announced |= set(news)
            if not pending:
                return
            if time.monotonic() - waiting_since > _SETTLE_TIMEOUT_SECONDS:
                raise DemoFailedError(
                    f"no retrain of {', '.join(pending)} came through in {_SETTLE_TIMEOUT_SECONDS} s: see "
                    f"{self.settings.dagster_home / 'daemon.log'}, then start the demo again"
                )
            time.sleep(1)

    def is_pending(self, line: ModelLineSpec) -> bool:
        """Whether the line has a failed check to answer, or a retrain that has not come through."""
        retrains = dg.RunsFilter(job_name=retrain_job(line.name), statuses=UNFINISHED)
        if self.instance.get_runs_count(retrains):
            return True
        return not is_settled(self.instance, self.stores(line), FactoryClock(self.settings.clock).now())

    def retrains(self, line: ModelLineSpec) -> list[str]:
        """What the daemon's sensor has asked for, and what went wrong in it, of retrains that have not come through."""
        told = []
        for entry in self.stores(line).ledger.history(line.name).of_line(line.name):
            if entry.state in IN_FLIGHT:
                told.append(f"{line.name}: its sensor has asked for a retrain, for {entry.cause.trigger}")
            elif entry.state != "open":
                again = entry.next_step_at_utc
                told.append(f"{line.name}: {entry.reason}" + (f"; tried again at {again:%H:%M:%S} UTC" if again else ""))
        return told

    def stores(self, line: ModelLineSpec) -> LineStores:
        """The line's storage objects."""
        registry = MlflowRegistry(self.settings.mlflow_uri, self.settings.mlflow_artifacts)
        return LineStores(line, Lake(self.settings.lake), ArtefactStore(self.settings.models), registry)

    @contextmanager
    def daemon(self) -> Iterator[None]:
        """A real daemon, on the same home and data."""
        process = start_daemon(self.settings)
        try:
            yield
        finally:
            stop_dagster(self.settings, process)


def play_demo(settings: FactorySettings, plan: Plan, report: Report) -> None:
    """Plays `plan`; at once done when it has been played before.

    Raises:
        DemoFailedError: when a step fails.
        DataFolderInUseError: when another factory process works on the data folder.
    """
    with own_data_folder(settings):
        if notice := prepare_dagster_home(settings):
            report(notice)
        played = settings.data / _PLAYED
        if played.is_file() and played.read_text() == plan.key:
            report("the demo has been played: nothing to do")
            return
        with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
            from factory_assets.definitions import defs

            Demo(settings, plan, report, defs(), instance, load_lines(settings)).play()
        played.write_text(plan.key)
