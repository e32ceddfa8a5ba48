"""What a fit costs beside the fit itself: here, wired naively, in a Metaflow foreach, and in a Kedro pipeline.

Small numbers of tasks are measured and the cost of one more task is told; CPU counts all processes. The peers are installed
into an environment of their own; without a package index they are left out, and the figures say so.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.figures import Figure
from benchmarks.fleet.compare import SEGMENTS, prepare, run_side
from benchmarks.fleet.work import FEATURES, NOW, Work, pick_segments, read_flights

SCRIPTS = Path(__file__).with_name("peer_scripts")
NAIVE_RUNS = 10
PEER_TASKS = {"Metaflow foreach": 6, "Kedro pipeline": 60}
_PACKAGES = ("metaflow", "kedro", "scikit-learn", "numpy")
Cost = tuple[float, float]


def measure_peers(console: Console, rounds: int) -> list[Figure]:
    """The cost of one segment each way, and the factory's whole fleet against the naive one: medians of so many rounds."""
    with tempfile.TemporaryDirectory(prefix="bench-fleet-peers-") as temporary:
        folder = Path(temporary)
        work = prepare(folder / "factory", pick_segments(read_flights(), SEGMENTS), SEGMENTS, "trees")
        _write_rows(work, folder / "rows.npz", max(PEER_TASKS.values()))
        naive = _measure_naive(folder)
        console.print(f"naive: {naive[0]:.1f} s CPU a segment")
        ours = _median([_measure_factory(folder / f"factory{number}") for number in range(rounds)])
        console.print(f"the factory: {ours[0]:.1f} s CPU for {SEGMENTS:,} segments")
        peers = _measure_peers(console, folder, rounds)
        speeds = [_measure_ray(folder / f"ray{number}") for number in range(rounds)]
    figures = [*_naive_figures(naive, ours, rounds), *_peer_figures(ours, naive, peers, rounds)]
    return [*figures, _ray_figure(float(np.median(speeds)), rounds)]


def _median(costs: Sequence[Cost]) -> Cost:
    cpu, wall = np.median(costs, axis=0)
    return float(cpu), float(wall)


def _measure_factory(folder: Path) -> Cost:
    """One cycle of the whole fleet, from nothing."""
    work = prepare(folder, pick_segments(read_flights(), SEGMENTS), SEGMENTS, "trees")
    total = run_side("factory", work, "cycle")["seconds"]["cycle"]["total"]
    return total["cpu"], total["wall"]


def _measure_ray(folder: Path) -> float:
    """How much faster two workers are than one."""
    work = prepare(folder, pick_segments(read_flights(), 300), 300, "trees")
    seconds = run_side("cluster", work)["seconds"]
    one, two = (seconds[f"ray {cores}"]["total"]["wall"] for cores in (1, 2))
    return one / two


def _write_rows(work: Work, path: Path, count: int) -> None:
    """The training rows of the largest segments, as arrays that every peer can read."""
    stores = work.open_stores()
    frame = stores.lake.query("from t", t=stores.training_sets.pin().table).to_pandas()
    frame = frame[frame["scheduled_utc"] < NOW]
    groups = list(frame.groupby(["carrier", "flight_number", "origin", "destination"], sort=True).indices.values())[:count]
    arrays = {}
    for number, rows in enumerate(groups):
        arrays[f"rows{number}"] = frame.iloc[rows][list(FEATURES)].fillna(0.0).to_numpy(dtype=np.float64)
        arrays[f"labels{number}"] = frame.iloc[rows]["label"].to_numpy()
    np.savez(path, **arrays)


def _measure_naive(folder: Path) -> Cost:
    """Mean CPU and wall of one Dagster run with one default `log_model`; the first run makes the stores, and is left out."""
    home = folder / "naive_home"
    home.mkdir()
    script = SCRIPTS / "naive_factory.py"
    environment = {
        "DAGSTER_HOME": str(home),
        "NAIVE_ROWS": str(folder / "rows.npz"),
        "NAIVE_MLFLOW_URI": f"sqlite:///{folder / 'naive.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    add = f"import dagster as dg; dg.DagsterInstance.get().add_dynamic_partitions('segments', {list(map(str, range(20)))})"
    _spend([sys.executable, "-c", add], environment, folder)

    def run(segment: int) -> Cost:
        command = [sys.executable, "-m", "dagster", "asset", "materialize", "-f", str(script)]
        return _spend([*command, "--select", "model", "--partition", str(segment)], environment, folder)

    run(0)
    costs = [run(number + 1) for number in range(NAIVE_RUNS)]
    return float(np.mean([cpu for cpu, _ in costs])), float(np.mean([wall for _, wall in costs]))


def _measure_peers(console: Console, folder: Path, rounds: int) -> dict[str, Cost]:
    """CPU and wall of one more task, medians of so many rounds; empty when the peers cannot be installed."""
    python = folder / "peers" / "bin" / "python"
    uv = Path(sys.executable).with_name("uv")
    try:
        _spend([str(uv), "venv", "--quiet", "--python", sys.executable, str(python.parents[1])], {}, folder)
        _spend([str(uv), "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), *_PACKAGES], {}, folder)
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        console.print(f"the peers cannot be installed here: {error}")
        return {}
    found = {}
    for name, run in (("Metaflow foreach", _run_metaflow), ("Kedro pipeline", _run_kedro)):
        tasks = PEER_TASKS[name]
        pairs = [(run(python, folder, 1), run(python, folder, tasks)) for _ in range(rounds)]
        more = [((many[0] - one[0]) / (tasks - 1), (many[1] - one[1]) / (tasks - 1)) for one, many in pairs]
        found[name] = _median(more)
        console.print(f"{name}: {found[name][0]:.2f} s CPU a task")
    return found


def _run_metaflow(python: Path, folder: Path, tasks: int) -> Cost:
    settings = {"METAFLOW_DEFAULT_DATASTORE": "local", "METAFLOW_USER": "bench", "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    command = [str(python), str(SCRIPTS / "metaflow_fleet.py"), "run", "--rows", str(folder / "rows.npz")]
    return _spend([*command, "--tasks", str(tasks), "--max-workers", "2"], settings, folder)


def _run_kedro(python: Path, folder: Path, tasks: int) -> Cost:
    models = folder / f"kedro_{tasks}"
    models.mkdir(exist_ok=True)
    command = [str(python), str(SCRIPTS / "kedro_fleet.py"), str(folder / "rows.npz"), str(tasks), str(models)]
    return _spend(command, {"OMP_NUM_THREADS": "1"}, folder)


def _spend(command: list[str], environment: Mapping[str, str], folder: Path) -> Cost:
    """CPU and wall of a command with all its children.

    Raises:
        subprocess.CalledProcessError: when it fails.
    """
    before, started = _children_seconds(), time.perf_counter()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FACTORY_", "DAGSTER_", "MLFLOW_"))}
    subprocess.run(command, cwd=folder, env={**kept, **environment}, capture_output=True, check=True)
    return _children_seconds() - before, time.perf_counter() - started


def _children_seconds() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _naive_figures(naive: Cost, ours: Cost, rounds: int) -> list[Figure]:
    how = (
        f"{NAIVE_RUNS} Dagster runs of one segment, each with MLflow's default log_model, in a process each, times"
        f" {SEGMENTS // NAIVE_RUNS}; over one cycle of {SEGMENTS:,} segments, median of {rounds}"
    )
    figures = []
    for place, clock in enumerate(("cpu", "wall")):
        ratio = naive[place] * SEGMENTS / ours[place]
        aim = "at least 100 x"
        figures.append(Figure(f"naive wiring over the factory's fleet, {clock}", ratio, "x", how, aim, ratio >= 100))
    return figures


def _peer_figures(ours: Cost, naive: Cost, peers: Mapping[str, Cost], rounds: int) -> list[Figure]:
    each = {"the factory": (ours[0] / SEGMENTS, ours[1] / SEGMENTS), "naive wiring": naive, **peers}
    how = (
        "one more segment with its fit of HistGradientBoosting; the factory gates, registers and records it too; naive: mean"
        f" of {NAIVE_RUNS}, the others: median of {rounds}"
    )
    return [
        Figure(f"a segment in {name}, {clock}", cost[place] * 1000, "ms", how)
        for name, cost in each.items()
        for place, clock in enumerate(("cpu", "wall"))
    ]


def _ray_figure(speed: float, rounds: int) -> Figure:
    how = (
        "300 segments by a local Ray, warm; the same models to the byte on one core, on two, and without Ray; wall, median"
        f" of {rounds}"
    )
    return Figure("Ray, two workers over one", speed, "x faster", how, "at least 1.6 x faster", speed >= 1.6)
