"""Stand-ins for object stores on the loopback: moto for S3, azurite for Azure. One lake a test, in a bucket of its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from factory_assets.storage.delta.object_stores import open_filesystem, parse_place

ROOT = Path(__file__).parents[2]
AZURITE = ROOT / ".cache" / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
# Azurite knows this account and no other; both are printed in its manual.
AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
AWS_SECRET = "canary-7f3e9d-aws-secret"
STORES = ("s3", "az")


@dataclass(frozen=True)
class Store:
    """A running stand-in: the variables that reach it."""

    scheme: str
    environment: dict[str, str]

    @property
    def secret(self) -> str:
        """What nobody may ever write down."""
        return self.environment.get("AWS_SECRET_ACCESS_KEY") or self.environment["AZURE_STORAGE_ACCOUNT_KEY"]


@pytest.fixture(scope="session")
def s3() -> Iterator[Store]:
    """S3 by moto, in a process of its own: delta-rs may hold the interpreter's lock while it waits for an answer."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    await_port(port, process)
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": AWS_SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }
    yield Store("s3", environment)
    stop(process)


@pytest.fixture(scope="session")
def az(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Azure's blob storage by azurite. Without it the tests fail; they are never skipped."""
    if not AZURITE.exists():
        pytest.fail(f"azurite is not installed in {AZURITE.parents[5]}: run `make azurite`, which needs Node.js and npm")
    port = free_port()
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence", "--silent"]
    command = ["node", str(AZURITE), *options, "--skipApiVersionCheck", "--disableTelemetry"]
    process = subprocess.Popen(command, cwd=tmp_path_factory.mktemp("azurite"), stdout=subprocess.DEVNULL)
    await_port(port, process)
    environment = {
        "AZURE_STORAGE_ACCOUNT_NAME": AZURITE_ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": AZURITE_KEY,
        # Azurite does not know the `startFrom` of a listing; told what it is, delta-rs does without.
        "AZURE_STORAGE_USE_EMULATOR": "true",
        "AZURITE_BLOB_STORAGE_URL": f"http://127.0.0.1:{port}",
    }
    yield Store("az", environment)
    stop(process)


def stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.wait(timeout=60)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def await_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, f"{process.args} ended before it listened"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"{process.args} does not listen")


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Each store in turn, its variables set."""
    chosen: Store = request.getfixturevalue(request.param)
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "AZURITE_"))]:
        monkeypatch.delenv(name)
    for name, value in chosen.environment.items():
        monkeypatch.setenv(name, value)
    return chosen


@pytest.fixture
def root(store: Store, request: pytest.FixtureRequest) -> str:
    """The address of an empty lake."""
    bucket = f"lake{abs(hash(request.node.nodeid)):x}"
    uri = f"{store.scheme}://{bucket}/lake"
    open_bucket(uri)
    return uri


def open_bucket(uri: str) -> None:
    if uri.startswith("s3"):
        import boto3

        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=parse_place(uri).path.partition("/")[0])
    else:
        open_filesystem(uri).create_dir(parse_place(uri).path.partition("/")[0])
