"""The same fits on a Ray of one worker and of two: `python -m benchmarks.fleet.cluster FOLDER SEGMENTS ESTIMATOR`.

Ray is started here, once with each number of cores, with its workers warm; only the fan-out is timed.
"""

import contextlib
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.fleet.work import NOW, Estimator, Work
from benchmarks.loop.meter import Meter
from factory_assets.compute.backends import open_fan_out
from factory_assets.compute.chunks import plan_chunks
from factory_assets.core.segments import lay_out
from factory_assets.core.training.segment_training import SegmentTask, build_job, fit_chunk

_ROUNDS = 3
# Not 127.0.0.1, which Ray takes for the address by which other machines see this one.
_HOST, _PORT = "127.0.0.2", 41670


@contextmanager
def ray_cluster(cores: int) -> Iterator[str]:
    """A Ray head of so many cores, connected, and ended with the block."""
    import ray

    command = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", f"--node-ip-address={_HOST}"]
    command += [f"--port={_PORT}", f"--num-cpus={cores}", "--include-dashboard=false", "--disable-usage-stats"]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    head = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_it_listens()
        ray.init(address=f"{_HOST}:{_PORT}", log_to_driver=False, logging_level="error")
        yield f"{_HOST}:{_PORT}"
    finally:
        ray.shutdown()
        head.terminate()
        head.wait()


def _wait_until_it_listens() -> None:
    """Ray's own attempts to connect go on for minutes."""
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection((_HOST, _PORT), timeout=1):
            return
        time.sleep(0.1)
    raise TimeoutError("no Ray head within a minute")


def main(folder: str, segments: str, estimator: Estimator) -> None:
    """Measures one core and two; the models must be those of this process, to the byte."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    work, meter = Work(Path(folder), int(segments), estimator), Meter()
    stores = work.open_stores()
    rows = stores.training_sets.read(stores.training_sets.pin().table)
    table, nodes = lay_out(rows, work.spec.levels)
    tasks = [SegmentTask(node) for node in nodes if node.parent is not None]
    job = partial(fit_chunk, build_job(work.spec, table, NOW))
    chunks = plan_chunks(tasks, lambda task: task.node.length, 2)
    hashes = {}
    for cores in (1, 2):
        with ray_cluster(cores) as address:
            fan_out = open_fan_out("ray", ray_address=address)
            list(fan_out.map(job, [chunk[:1] for chunk in chunks[: 2 * cores]], table))
            walls = []
            for _ in range(_ROUNDS):
                started = time.perf_counter()
                found = dict(fan_out.map(job, chunks, table))
                walls.append(time.perf_counter() - started)
            meter.add(f"ray {cores}", "total", statistics.median(walls), 0.0)
            hashes[cores] = {task.node.segment: result.model and result.model.sha256 for task, result in found.items()}
    local = dict(open_fan_out("serial").map(job, chunks[-2:], table))
    hashes[0] = {task.node.segment: result.model and result.model.sha256 for task, result in local.items()}
    assert hashes[1] == hashes[2]
    assert hashes[0].items() <= hashes[1].items()
    meter.save(work.folder / "cluster.json")


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
