"""On a real cluster of this machine: started once for the module, on ports of its own and behind a token.

Its address is 127.0.0.2, since Ray takes 127.0.0.1 for the address by which other machines see this one.
"""

import contextlib
import functools
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from factory_assets.compute.backends import open_fan_out
from factory_assets.compute.chunks import Lost, plan_chunks
from factory_assets.compute.fan_out import FanOut
from factory_assets.compute.ray_cluster import RayAddressError, RayMissingError
from factory_assets.lines.stores import LineStores
from factory_assets.lines.training import train_line
from factory_assets.storage.delta.lake import Lake
from tests.compute.chunk_work import die_at, die_once, fit_but_die_once, refuse, say_process, sum_of
from tests.compute.conftest import SEGMENTS
from tests.compute.small_fleet import hashes_by
from tests.lines.conftest import NOW, empty_mlflow, stores  # noqa: F401 (two are fixtures)
from tests.lines.fleet_fixture import fleet_spec, read_fleet, write_fleet

CHUNKS = [tuple(SEGMENTS[:5]), tuple(SEGMENTS[5:])]
HOST = "127.0.0.2"
FIRST_PORT = int(os.environ.get("TEST_RAY_PORT", "41600"))
AUTHENTICATED = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
PORTS = ("port", "node-manager-port", "object-manager-port", "runtime-env-agent-port", "dashboard-agent-grpc-port",
         "dashboard-agent-listen-port", "metrics-export-port", "min-worker-port")  # fmt: skip


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A head with two cores; it runs in the foreground of a session of its own, so that all of it can be ended."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("the extra `ray` is not installed")
    numbers = [f"--{name}={FIRST_PORT + position}" for position, name in enumerate(PORTS)]
    command = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", f"--node-ip-address={HOST}",
               "--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats",
               f"--ray-client-server-port={FIRST_PORT + 61}",
               f"--max-worker-port={FIRST_PORT + 60}", *numbers]  # fmt: skip
    home = {**os.environ, **AUTHENTICATED, "PYTHONPATH": str(Path(__file__).parents[2])}
    with pytest.MonkeyPatch.context() as patch, (tmp_path_factory.mktemp("ray") / "log").open("w+") as log:
        head = subprocess.Popen(command, env=home, stdout=log, stderr=log, start_new_session=True)
        # Ray's core reads the token when it is imported, so this comes before the first import.
        for name, value in AUTHENTICATED.items():
            patch.setenv(name, value)
        try:
            yield f"{HOST}:{FIRST_PORT}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(head.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                head.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(head.pid, signal.SIGKILL)


def wait_for_port(port: int) -> None:
    """Until somebody listens: a connection of Ray's own tries for minutes before it gives up."""
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens on {HOST}:{port}")


@pytest.fixture(scope="module")
def cluster(address: str) -> Iterator[FanOut]:
    """The backend, with one connection kept for all tests of the module."""
    wait_for_port(FIRST_PORT)
    import ray

    ray.init(address=address, log_to_driver=False)
    yield open_fan_out("ray", ray_address=address)
    ray.shutdown()


def test_results_are_those_of_this_process(cluster: FanOut, table, sums) -> None:
    for workers in (1, 4):
        chunks = plan_chunks(SEGMENTS, lambda segment: sums[segment], workers)
        assert dict(cluster.map(sum_of, chunks, table)) == sums


def test_the_models_of_a_fleet_are_those_of_this_process_to_the_byte(cluster: FanOut) -> None:
    assert hashes_by(cluster, 2) == hashes_by(open_fan_out("serial"), 1)


def test_a_fleet_that_loses_a_worker_among_its_fits_has_the_same_models(cluster: FanOut, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    assert hashes_by(cluster, 1, functools.partial(fit_but_die_once, mark)) == hashes_by(open_fan_out("serial"), 1)
    assert mark.exists()


def test_a_line_that_is_trained_on_the_cluster_is_the_same_fleet(
    cluster: FanOut,
    address: str,
    stores: LineStores,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("factory_assets.lines.fitting._LEAST_TO_FAN_OUT", 1)
    write_fleet(stores.lake)
    stores.training_sets.build(NOW)
    versions = []
    for executor in ("serial", "ray"):
        lake = shutil.copytree(stores.lake.root, tmp_path / executor)
        line = replace(stores, lake=Lake(str(lake)), spec=fleet_spec(executor=executor), ray_address=address)
        versions.append(read_fleet(line, train_line(line, NOW, "run")))
    assert versions[0] == versions[1]
    assert len(versions[0][0]) > 3


def test_a_ray_worker_has_one_thread_and_none_of_the_engines(cluster: FanOut, table) -> None:
    for about in dict(cluster.map(say_process, CHUNKS, table)).values():
        assert (about["heavy"], about["omp"]) == (["ray"], "1")
        assert set(about["pools"]) <= {1}


def test_a_killed_ray_worker_loses_only_what_it_had_not_finished(cluster: FanOut, table, sums, tmp_path: Path) -> None:
    assert dict(cluster.map(functools.partial(die_once, tmp_path / "mark"), CHUNKS, table)) == sums
    finished = (tmp_path / "finished").read_text().split()
    assert set(finished) == set(SEGMENTS)
    assert len(finished) < len(SEGMENTS) + len(CHUNKS[0])


def test_the_segment_that_kills_its_ray_workers_is_found(cluster: FanOut, table, sums) -> None:
    found = dict(cluster.map(functools.partial(die_at, "s2"), CHUNKS, table))
    lost = found.pop("s2")
    assert isinstance(lost, Lost)
    assert "Ray worker died" in lost.reason
    assert found == {segment: value for segment, value in sums.items() if segment != "s2"}


def test_what_the_function_raises_on_the_cluster_is_raised_here(cluster: FanOut, table) -> None:
    with pytest.raises(KeyError, match="no column for s") as raised:
        list(cluster.map(refuse, CHUNKS, table))
    assert "in refuse" in raised.value.__notes__[0]


def test_without_an_address_nothing_is_started() -> None:
    with pytest.raises(RayAddressError, match=r"ray start --head.*FACTORY_RAY_ADDRESS"):
        open_fan_out("ray")


def test_without_ray_the_error_names_the_extra(monkeypatch, table) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RayMissingError, match=r"factory-assets\[ray\]"):
        list(open_fan_out("ray", ray_address="127.0.0.1:1").map(sum_of, CHUNKS, table))


def test_nothing_else_imports_ray() -> None:
    script = "import sys, factory_assets.compute.backends, factory_assets.lines.training; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
