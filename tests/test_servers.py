"""The commands that serve: what they say when they cannot, and what they leave when they are stopped."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
from typer.testing import CliRunner

from factory_assets.cli import app
from factory_assets.processes import living_members

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def terminable() -> Iterator[None]:
    """Dagster runs of other tests leave SIGTERM as the shell set SIGINT, which may be ignored, and children inherit that."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def await_end_of(group: int) -> None:
    """Killed they are; the system needs a moment to take them away."""
    deadline = time.monotonic() + 60
    while living_members(group) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert living_members(group) == []


@pytest.mark.parametrize("command", ["dev", "docs", "mlflow"])
def test_a_port_that_is_taken_is_told_before_anything_starts(
    command: str, taken_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACTORY_DATA_DIR", str(tmp_path))
    result = CliRunner().invoke(app, [command, "--port", str(taken_port)])
    assert result.exit_code == 1
    assert f"error: port {taken_port} of 127.0.0.1: Address already in use" in result.stdout
    assert "name another with --port" in " ".join(result.stdout.split())
    assert not (tmp_path / "dagster" / "processes.pgid").exists()


@contextmanager
def served(command: str, data: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`factory COMMAND`, listening on its port; whatever is left of it at the end is killed."""
    port = free_port()
    arguments = [str(Path(sys.executable).with_name("factory")), command, "--port", str(port)]
    environment = {**os.environ, "FACTORY_DATA_DIR": str(data)}
    server = subprocess.Popen(
        arguments, cwd=data, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while not listens(port):
            assert server.poll() is None
            time.sleep(0.05)
        yield server, port
    finally:
        if living_members(server.pid):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def test_an_mlflow_ui_that_is_terminated_leaves_no_server(tmp_path: Path) -> None:
    with served("mlflow", tmp_path) as (server, _):
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=60)
        await_end_of(server.pid)


def test_dbts_documentation_is_served_from_whatever_folder_and_ends_when_it_is_terminated(tmp_path: Path) -> None:
    with served("docs", tmp_path) as (server, port):
        with urlopen(f"http://127.0.0.1:{port}/manifest.json") as answer:
            described = json.load(answer)["nodes"]
        assert "model.factory.fct_flight" in described
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=60)
        await_end_of(server.pid)


def test_the_ui_of_an_mlflow_server_is_the_servers_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACTORY_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("FACTORY_MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    result = CliRunner().invoke(app, ["mlflow"])
    assert result.exit_code == 1
    assert "names a server, which has a UI of its own" in result.stderr


def test_a_factory_that_is_terminated_takes_its_daemon_with_it(tmp_path: Path) -> None:
    port = free_port()
    record = tmp_path / "dagster" / "processes.pgid"
    environment = {**os.environ, "FACTORY_DATA_DIR": str(tmp_path), "FACTORY_REPORTS_URL": "http://reports.example.com"}
    command = [str(Path(sys.executable).with_name("factory")), "dev", "--port", str(port)]
    factory = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while not (record.exists() and record.read_text() and len(living_members(int(record.read_text()))) > 1):
            assert factory.poll() is None
            time.sleep(0.05)
        group = int(record.read_text())
        factory.send_signal(signal.SIGTERM)
        factory.wait(timeout=120)
        await_end_of(group)
    finally:
        factory.kill()
        if record.exists() and living_members(int(record.read_text())):
            os.killpg(int(record.read_text()), signal.SIGKILL)
