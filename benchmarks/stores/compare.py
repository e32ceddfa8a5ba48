"""Four ways for DuckDB to read one Delta table in S3 (moto on the loopback), each as far as it goes by itself."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any
from unittest.mock import patch

import duckdb
import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from rich.console import Console
from scipy.stats import wilcoxon

from benchmarks.dbt.measured import machine
from benchmarks.figures import Figure
from factory_assets.storage.delta.object_stores import register_store, storage_options
from factory_assets.storage.delta.snapshots import select_sql

_ROWS = 2_000_000
_BUCKET, _URI = "benchmark", "s3://benchmark/lake/bronze/t"
_AGGREGATE = "select sum(x), count(distinct s) from {source}"
_RANGE = "select * from {source} where k between 1000000 and 1001000"
_CHOSEN = "Arrow's file system"
_TURNS_PER_ROUND = 5
_LEVEL = 0.05

Query = Callable[[str], Any]


def measure_stores(console: Console, rounds: int) -> list[Figure]:
    """Seconds of an aggregate and of a range for each way, and the chosen one against the others."""
    with _running_s3():
        options = storage_options(_URI)
        write_deltalake(_URI, _make_rows(), storage_options=options)
        table = DeltaTable(_URI, storage_options=options)
        ways = {_CHOSEN: _by_arrow(table), "s3fs": _by_s3fs(table), "Arrow dataset": _by_dataset(table)}
        turns = _TURNS_PER_ROUND * rounds
        figures = []
        for query, sql in (("aggregate", _AGGREGATE), ("range", _RANGE)):
            # In turns, so that what else the machine does meets all of them alike.
            taken = [{way: _time(run, sql) for way, run in ways.items()} for _ in range(turns + 1)][1:]
            seconds = {way: [times[way] for times in taken] for way in ways}
            console.print(f"{query}: " + ", ".join(f"{way} {median(found):.3f} s" for way, found in seconds.items()))
            figures += _compare(query, seconds)
    return figures


def _compare(query: str, seconds: Mapping[str, Sequence[float]]) -> list[Figure]:
    """The chosen way has to be the quickest, or no slower than the turns' noise explains."""
    how = (
        f"{_ROWS:,} rows in one file, moto on the loopback, a connection each, {len(seconds[_CHOSEN])} turns after one to "
        f"warm up; ratio of the medians; {machine()}"
    )
    figures = []
    for other in seconds.keys() - {_CHOSEN}:
        # Turn by turn, so that what else the machine did in a turn cancels out; in logarithms, since it does so by factors.
        slower = wilcoxon(np.log(seconds[_CHOSEN]), np.log(seconds[other]), alternative="greater").pvalue
        ratio = median(seconds[_CHOSEN]) / median(seconds[other])
        aim = f"not slower at the level of {_LEVEL} (Wilcoxon's signed ranks)"
        said = f"{how}; p = {slower:.3f} that it is no slower"
        figures.append(Figure(f"{query}: chosen way against {other}", ratio, "x", said, aim, bool(slower >= _LEVEL)))
    figures.sort(key=lambda figure: figure.figure)
    return figures + [Figure(f"{query}: {way}", median(found), "s", how, is_detail=True) for way, found in seconds.items()]


def _make_rows() -> pa.Table:
    random = np.random.default_rng(7)
    texts = random.integers(0, 1_000, _ROWS).astype(str)
    return pa.table({"k": np.arange(_ROWS), "x": random.random(_ROWS), "s": texts})


def _by_arrow(table: DeltaTable) -> Query:
    connection = duckdb.connect()
    register_store(connection, _URI)
    return lambda sql: connection.execute(sql.format(source=f"({select_sql(table)})")).fetchall()


def _by_s3fs(table: DeltaTable) -> Query:
    import s3fs

    connection = duckdb.connect()
    options = storage_options(_URI)
    connection.register_filesystem(
        s3fs.S3FileSystem(
            key=options["AWS_ACCESS_KEY_ID"],
            secret=options["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=options["AWS_ENDPOINT_URL"],
        )
    )
    return lambda sql: connection.execute(sql.format(source=f"read_parquet({table.file_uris()})")).fetchall()


def _by_dataset(table: DeltaTable) -> Query:
    connection = duckdb.connect()
    connection.register("dataset", table.to_pyarrow_dataset())
    return lambda sql: connection.execute(sql.format(source="dataset")).fetchall()


def _time(run: Query, sql: str) -> float:
    started = time.perf_counter()
    run(sql)
    return time.perf_counter() - started


@contextmanager
def _running_s3() -> Iterator[None]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "something",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with patch.dict(os.environ, environment):
            _make_bucket(process)
            yield
    finally:
        process.terminate()
        process.wait()


def _make_bucket(process: "subprocess.Popen[bytes]") -> None:
    import boto3
    from botocore.exceptions import EndpointConnectionError

    while process.poll() is None:
        try:
            boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=_BUCKET)
        except EndpointConnectionError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("moto ended before it listened")
