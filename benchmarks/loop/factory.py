"""The factory's side: the real jobs, run in this process as the demo runs them. Stage times are Dagster's own record.

A step's time lies between its start and end in Dagster's event log, its CPU is what the process spent meanwhile. What a
run takes beyond its steps (planning, writing events) is the stage `orchestration`. Everything that is loaded once a
process is loaded before the first run, and counted as start-up.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.loop.meter import CpuTimeline, Meter
from benchmarks.loop.work import LINES, Days, Work

if TYPE_CHECKING:
    import dagster as dg

    from factory_assets.settings import FactorySettings

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_STAGES = {"training_set": "training set", "models": "train", "predictions": "score"}
_ENDS = ("STEP_SUCCESS", "STEP_FAILURE")


@dataclass(frozen=True)
class Factory:
    """The loaded code location, and what measures it."""

    settings: "FactorySettings"
    definitions: "dg.Definitions"
    instance: "dg.DagsterInstance"
    meter: Meter

    def run(self, phase: str, job: str, days: Days | None = None, assets: Sequence[str] = ()) -> None:
        """One run of one job (of only `assets`, where some are named) over a range of days, taken apart into stages.

        Raises:
            RuntimeError: when the run fails.
        """
        import dagster as dg

        from factory_assets.components.naming import range_tags

        definition = (
            self.definitions.resolve_implicit_global_asset_job_def() if assets else self.definitions.resolve_job_def(job)
        )
        with self.meter.stage(phase, "total"), CpuTimeline() as timeline:
            result = definition.execute_in_process(
                run_config=_QUIET,
                instance=self.instance,
                tags=range_tags(days.keys[0], days.keys[-1]) if days else {},
                asset_selection=[dg.AssetKey(asset.split("/")) for asset in assets] or None,
                raise_on_error=False,
            )
        if not result.success:
            failed = [
                str(event.step_failure_data.error_display_string) for event in result.all_events if event.is_step_failure
            ]
            raise RuntimeError(f"{job} failed:\n" + "\n".join(failed))
        started: dict[str, float] = {}
        for entry in self.instance.all_logs(result.run_id):
            if entry.dagster_event is None or entry.step_key is None:
                continue
            kind = entry.dagster_event.event_type_value
            if kind == "STEP_START":
                started[entry.step_key] = entry.timestamp
            elif kind in _ENDS:
                start = started[entry.step_key]
                cpu = timeline.between(start, entry.timestamp)
                self.meter.add(phase, _stage(entry.step_key), entry.timestamp - start, cpu)
                self.meter.facts.setdefault("steps", []).append([phase, job, entry.step_key, entry.timestamp - start, cpu])
        if job == "daily":
            self.meter.facts[f"dbt seconds, {phase}"] = self._dbt_seconds()

    def _dbt_seconds(self) -> dict[str, float]:
        """Execution time by kind of node, as dbt recorded it; nodes run side by side, so the sum may exceed the wall."""
        results = json.loads((self.settings.data / "dbt" / "target" / "run_results.json").read_text())["results"]
        seconds: dict[str, float] = {}
        for node in results:
            kind = node["unique_id"].split(".")[0]
            seconds[kind] = seconds.get(kind, 0.0) + float(node["execution_time"])
        return seconds


def main(work: Work, out: Path) -> None:
    """Starts up, takes in the history, trains, then takes in the week; writes `measured.json` below `out`."""
    meter = Meter()
    settings, definitions = _start_up(meter)
    import dagster as dg

    from factory_assets.storage.clock import FactoryClock

    clock = FactoryClock(settings.clock)
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        factory = Factory(settings, definitions, instance, meter)
        for phase, days in (("history", work.history), ("week", work.week)):
            work.land(days, settings.landing)
            clock.set(days.now)
            factory.run(phase, "daily", days)
            if phase == "history":
                for line in LINES:
                    factory.run(phase, f"{line}__retrain")
                factory.run(phase, "scores of the history", days, [f"{line}/predictions" for line in LINES])
            else:
                factory.run(phase, "monitor")
    for spent in (meter.seconds["history"], meter.seconds["week"]):
        total = spent.pop("total")
        rest = {clock: total[clock] - sum(stage[clock] for stage in spent.values()) for clock in ("wall", "cpu")}
        spent["orchestration"] = rest
    meter.facts.update(_facts(settings))
    meter.save(out / "measured.json")


def _start_up(meter: Meter) -> tuple["FactorySettings", "dg.Definitions"]:
    import dagster as dg

    from factory_assets.definitions import defs
    from factory_assets.installation import prepare_dagster_home
    from factory_assets.settings import FactorySettings
    from factory_assets.storage.dbt.runs import DbtRuns
    from factory_assets.storage.mlflow.registry import MlflowRegistry

    meter.add_start("imports")
    settings = FactorySettings()
    prepare_dagster_home(settings)
    with meter.stage("start-up", "dbt parse"):
        DbtRuns(settings.dbt_project, settings.data / "dbt", settings.lake).read_manifest()
    with meter.stage("start-up", "definitions"):
        definitions = defs()
        for job in ("daily", "monitor", *(f"{line}__retrain" for line in LINES)):
            definitions.resolve_job_def(job)
    with meter.stage("start-up", "import dbt"):
        import dbt.cli.main  # noqa: F401
    with meter.stage("start-up", "MLflow, its database"):
        MlflowRegistry(settings.mlflow_uri, settings.mlflow_artifacts).client()
    with meter.stage("start-up", "Dagster's database"):
        dg.DagsterInstance.from_config(str(settings.dagster_home)).dispose()
    return settings, definitions


def _stage(step: str) -> str:
    if step.startswith("bronze__"):
        return "ingest"
    if step == "dbt_project":
        return "transform"
    line_step = step.split("__", 1)[1]
    return _STAGES.get(line_step, "judge")


def _facts(settings: "FactorySettings") -> dict[str, Any]:
    from factory_assets.storage.delta.lake import Lake
    from factory_assets.storage.tables.model_versions import ModelVersions

    versions = ModelVersions(Lake(settings.lake))
    facts: dict[str, Any] = {"lake": settings.lake, "metrics": {}}
    for line in LINES:
        champion = versions.champion(line)
        if champion is None:
            raise RuntimeError(f"the gate promoted no model of {line}: nothing was scored, so there is nothing to compare")
        facts["metrics"][line] = dict(champion.evaluation.scores)
    return facts


if __name__ == "__main__":
    main(Work.load(Path(sys.argv[1])), Path(sys.argv[2]))
