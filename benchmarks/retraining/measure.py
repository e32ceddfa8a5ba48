"""The figures of retraining: causes answered exactly once, budgets held, ticks of a real sensor."""

import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
from rich.console import Console
from sqlalchemy import text

from benchmarks.figures import Figure, at_most
from benchmarks.retraining.simulation import Simulation
from factory_assets.components.model_line.checks import check_keys
from factory_assets.components.model_line.retraining import build_retraining_sensor
from factory_assets.contracts.budget import RetrainBudgetSpec
from factory_assets.contracts.retraining import Cause, LedgerEntry
from factory_assets.resources import ClockResource, LakeResource, MlflowResource
from factory_assets.settings import FactorySettings
from factory_assets.storage.clock import FactoryClock
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.tables.retrain_ledger import RetrainLedger, find_ledger
from tests.declared_lines import flight_line

MODELS, TICKS = 1000, 500
SEGMENTS = tuple(f"s{number:04}" for number in range(MODELS))
NOW = datetime(2013, 7, 10, 14, tzinfo=UTC)
SPEC = flight_line(name="fleet")


def measure_retraining(console: Console, rounds: int) -> list[Figure]:
    """Simulates with the product's own decisions, then times the sensor on a real instance and a real lake."""
    console.print(f"simulating {TICKS} ticks of {MODELS} models")
    crashes = Simulation(MODELS, seed=7)
    crashes.play(TICKS)
    console.print("a storm of drift under a daily budget")
    storm = Simulation(
        MODELS, seed=8, budget=RetrainBudgetSpec(runs_at_once=3, segments_a_run=200, cpu_minutes_a_day=10), calm=True
    )
    storm.drifting = set(storm.serving)
    storm.play(100)
    over = max(0.0, max(storm.spent_by_day.values()) - 600)
    served = len({e.cause.segment for e in storm.book.entries if e.state in ("promoted", "kept_champion")})
    console.print("ticks of the sensor on SQLite and Delta")
    idle, busy, idle_cpu, busy_cpu = zip(*(_time_ticks() for _ in range(rounds)), strict=True)
    causes = len({entry.cause.key for entry in crashes.book.entries})
    how = (
        f"{TICKS} ticks x {MODELS} models, {causes} causes, {len(crashes.started)} runs, of which 4 in 10 fail, die or hang"
    )
    way = _measure_way(FactorySettings().lake)
    return [
        *way,
        at_most("causes with not exactly one effective retrain", crashes.wrong_causes(), "causes", 0, how),
        at_most(
            "longest time a cause is without a next step, ticks of a killed sensor left out",
            crashes.longest_silence_while_alive,
            "ticks",
            2,
            f"{how}; one tick in 20 is killed before it writes",
        ),
        at_most(
            "longest time a cause is without a next step, ticks of a killed sensor counted",
            crashes.longest_silence,
            "ticks",
            2,
            f"{how}; the sensor was killed {crashes.most_killed_in_a_row} times in a row: none can write while it is dead, "
            "and the first tick that is not killed names the next step",
        ),
        at_most(
            "spend over the daily cap in a drift storm",
            over,
            "CPU s",
            0,
            f"{MODELS} models, 600 CPU s a day; runs use 30 to 100% of what was set aside",
        ),
        at_most("segments of the storm that were never served", MODELS - served, "segments", 0, "the same storm, 6 days"),
        at_most("sensor tick with nothing new", statistics.median(idle), "s", 0.5, _TICK_HOW),
        at_most("sensor tick with 1,000 new failures", statistics.median(busy), "s", 3, _TICK_HOW),
        Figure("CPU of the tick with nothing new", statistics.median(idle_cpu), "s", _TICK_HOW),
        Figure("CPU of the tick with 1,000 new failures", statistics.median(busy_cpu), "s", _TICK_HOW),
    ]


def _measure_way(lake: str) -> list[Figure]:
    """From the ledger of a played demo (FACTORY_DATA_DIR): how long the way from a failed check to the answer was."""
    rows = Lake(lake).query(_WAY, ledger=find_ledger(Lake(lake))).to_pylist() if find_ledger(Lake(lake)) else []
    if not rows:
        return []
    times = [row["over_training"] for row in rows]
    start = [row["start_seconds"] for row in rows]
    how = f"stamps in the ledger of a played demo, {len(rows)} retrains; wall time of the machine as it was loaded then"
    return [
        at_most(
            "from failed check to new champion, sensor interval taken off, over the training",
            statistics.median(times),
            "x",
            2,
            how,
        ),
        Figure("the same, of the slowest retrain (which waited for a place)", max(times), "x", how),
        Figure("of it from request to the start of the run", statistics.median(start), "s", how),
    ]


_WAY = """
    with steps as (
        select
            cause,
            any_value(run_key) filter (state in ('promoted', 'kept_champion')) as run_key,
            min(recorded_at_utc) filter (state = 'open') as seen,
            max(recorded_at_utc) filter (state = 'requested') as requested,
            max(recorded_at_utc) filter (state = 'running') as started,
            max(recorded_at_utc) filter (state in ('promoted', 'kept_champion')) as answered
        from ledger
        where trigger <> 'by_hand'
        group by cause
        having answered is not null
    )
    select
        run_key,
        max((epoch(answered) - epoch(seen)) / (epoch(answered) - epoch(started))) as over_training,
        max(epoch(started) - epoch(requested)) as start_seconds
    from steps
    group by run_key
"""
_TICK_HOW = "body of the sensor; SQLite instance with 10,000 evaluations, ledger with 10,000 answered causes, 1,000 segments"


def _time_ticks() -> tuple[float, ...]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "home").mkdir()
        with dg.DagsterInstance.local_temp(str(Path(folder) / "home")) as instance:
            factory = _prepare(Path(folder), instance)
            _judge(instance, (), 80)
            _double_evaluations(instance, 7)
            _tick(factory, instance)
            idle, idle_cpu = _tick(factory, instance)
            _judge(instance, SEGMENTS, 1)
            busy, busy_cpu = _tick(factory, instance)
            return idle, busy, idle_cpu, busy_cpu


def _prepare(folder: Path, instance: dg.DagsterInstance) -> SimpleNamespace:
    lake = Lake(str(folder / "lake"))
    FactoryClock(folder / "clock.json").set(NOW)
    ledger = RetrainLedger(lake)
    for batch in range(10):
        day = NOW.replace(month=1 + batch % 6, day=1 + batch)
        causes = [Cause("fleet", segment, "feature_drift", 0, day) for segment in SEGMENTS]
        opened = [LedgerEntry(cause, "open", day, day, "drifted", summary="drifted") for cause in causes]
        steps = [
            opened,
            *([entry.step(state, state, day, day) for entry in opened] for state in ("requested", "kept_champion")),
        ]
        ledger.write([entry for step in steps for entry in step], batch)
    resources = {
        "lake": LakeResource(root=lake.root, landing=str(folder), models=str(folder)),
        "mlflow": MlflowResource(tracking_uri="sqlite:////nowhere", artifact_root="/nowhere"),
        "clock": ClockResource(path=str(folder / "clock.json")),
    }
    return SimpleNamespace(sensor=build_retraining_sensor(SPEC), resources=resources)


def _judge(instance: dg.DagsterInstance, failing: tuple[str, ...], times: int) -> None:
    key = check_keys(SPEC)["feature_drift"]
    metadata = {"champion_version": 0, "data_as_of": dg.MetadataValue.timestamp(NOW), "failing_segments": list(failing)}
    for _ in range(times):
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(key.asset_key, key.name, not failing, metadata=metadata, description="drifted")
        )


def _double_evaluations(instance: dg.DagsterInstance, times: int) -> None:
    """Ten thousand events one by one would take minutes; the rows are the same."""
    columns = (
        "asset_key, check_name, run_id, execution_status, evaluation_event, evaluation_event_timestamp, create_timestamp"
    )
    with instance.event_log_storage.index_connection() as connection:
        for _ in range(times):
            connection.execute(
                text(f"insert into asset_check_executions ({columns}) select {columns} from asset_check_executions")
            )


def _tick(factory: SimpleNamespace, instance: dg.DagsterInstance) -> tuple[float, float]:
    context = dg.build_sensor_context(instance=instance, resources=factory.resources)
    started, cpu = time.perf_counter(), time.process_time()
    factory.sensor(context)
    return time.perf_counter() - started, time.process_time() - cpu
