"""The independent reader: a process of another environment, asked table by table."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import duckdb
import pyarrow as pa
import pytest

from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.delta.snapshots import open_table, select_sql
from tests.dbt.conftest import sandbox as sandbox  # noqa: PLC0414 (a fixture is found by its name)

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".cache" / "delta-reader" / "bin" / "python"


@dataclass
class KernelReader:
    """DuckDB 1.5.5 with its Delta extension: the Delta kernel, of which nothing of ours is a part."""

    requests: IO[str]
    answers: IO[str]
    folder: Path

    def read(self, table: str, version: int | None = None) -> pa.Table:
        """All rows of a table in order of all columns, or the reader's own error."""
        into = self.folder / "rows.parquet"
        self.requests.write(json.dumps({"table": table, "into": str(into), "version": version}) + "\n")
        self.requests.flush()
        answer = json.loads(self.answers.readline())
        if "error" in answer:
            raise AssertionError(f"{table}: {answer['error']}")
        return rows_of(f"FROM read_parquet('{into}')")

    def read_words(self, table: str) -> dict[str, Any]:
        """The table's `description`, `comments` by column, and `properties`, as its log says in the protocol's own words."""
        self.requests.write(json.dumps({"table": table, "words": True}) + "\n")
        self.requests.flush()
        answer: dict[str, Any] = json.loads(self.answers.readline())
        assert "error" not in answer, answer
        return answer

    def assert_reads(self, uri: str, version: int | None = None) -> pa.Table:
        """Expect the kernel to give the rows, names and types that the factory itself reads."""
        table = open_table(uri, version)
        assert table is not None, f"no table {uri}"
        ours = rows_of(f"SELECT * FROM ({select_sql(table)}) ORDER BY ALL")
        theirs = self.read(uri, version)
        assert theirs.schema.equals(ours.schema), f"{uri}: {theirs.schema}\n{ours.schema}"
        assert theirs.equals(ours), uri
        return theirs

    def assert_reads_lake(self, lake: Lake) -> dict[str, int]:
        """Expect every table of the lake to be read alike; returns their numbers of rows."""
        return {name: self.assert_reads(lake.uri(name)).num_rows for name in lake.files.table_names()}


def rows_of(sql: str) -> pa.Table:
    with duckdb.connect() as connection:
        connection.execute("SET timezone = 'UTC'")
        return connection.sql(sql).to_arrow_table()


@pytest.fixture(scope="session")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelReader]:
    """One reader process for the session. Without its environment the tests fail; they are never skipped."""
    if not PYTHON.exists():
        pytest.fail(
            f"the independent Delta reader is not installed in {PYTHON.parents[1]}: run `make delta-reader`, which needs a "
            "package index with duckdb and duckdb-extension-delta"
        )
    command = [str(PYTHON), str(Path(__file__).with_name("read_table.py"))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    yield KernelReader(process.stdin, process.stdout, tmp_path_factory.mktemp("kernel"))
    process.stdin.close()
    assert process.wait(timeout=60) == 0
