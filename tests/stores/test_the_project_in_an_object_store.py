"""The same dbt project over S3 and Azure: four threads, every write mode, builds at once, and no secret written down."""

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

from factory_assets.storage.delta.lake import Lake
from tests.bronze_fixture import DBT_PROJECT, complaints, read_all, run_dbt, write_bronze
from tests.dbt.conftest import Sandbox
from tests.dbt.conftest import sandbox as sandbox  # noqa: PLC0414 (a fixture is found by its name)
from tests.stores.conftest import Store

NUMBERS = "select i::bigint as n, 'it''s ' || (i % 3) as k, {offset} as v from range({first}, {last}) as t (i)"


def rows(lake: Lake, table: str) -> list[tuple[object, ...]]:
    found = lake.query("select * from t order by all", t=lake.pin(table))
    return [tuple(row.values()) for row in found.to_pylist()]


def write_models(sandbox: Sandbox) -> None:
    numbers = "{% set first = var('first', 0) %}" + NUMBERS.format(
        offset="{{ first }}", first="{{ first }}", last="{{ first + 90 }}"
    )
    for number in range(4):
        sandbox.model(f"whole_{number}", numbers)
    sandbox.model("merged", numbers, incremental_strategy="merge", unique_key="n")
    sandbox.model("replaced", numbers, incremental_strategy="replace_partitions", partition_by="k")
    sandbox.model("joined", "select count(*) as n from {{ ref('merged') }} join {{ ref('whole_1') }} using (n)")


def test_every_write_mode_gives_what_it_gives_on_a_local_disk(sandbox: Sandbox, root: str) -> None:
    write_models(sandbox)
    for lake in (root, str(sandbox.lake)):
        for first in (0, 50):
            variables = json.dumps({"first": first})
            result = run_dbt(lake, sandbox.work, ["build", "--threads", "4", "--vars", variables], sandbox.project)
            assert result.success, complaints(result)
    store, local = Lake(root), Lake(str(sandbox.lake))
    names = local.files.table_names()
    assert len([name for name in names if name.startswith("marts/")]) == 7
    assert store.files.table_names() == names
    for name in names:
        if name.startswith("marts/"):
            assert rows(store, name) == rows(local, name), name
    assert rows(store, "marts/joined") == [(90,)]


def test_the_factorys_own_project_is_built_from_bronze(root: str, tmp_path: Path) -> None:
    write_bronze(root, read_all(date(2013, 1, 1), date(2013, 1, 3)))
    for _ in range(2):
        result = run_dbt(root, tmp_path, ["build", "--threads", "4"], DBT_PROJECT)
        assert result.success, complaints(result)
    lake = Lake(root)
    assert lake.pin("features/feat_flight_departure").row_count == lake.pin("marts/fct_flight").row_count > 2_000


def test_two_builds_at_once_lose_nothing(sandbox: Sandbox, root: str, store: Store) -> None:
    """Each of them wins, or is refused and told to run again; then it does."""
    sandbox.model(
        "merged",
        "select i::bigint as n, {{ var('who') }} as who from range({{ var('first') }}, {{ var('first') }} + 50) as t (i)",
        incremental_strategy="merge",
        unique_key="n",
    )
    command = [sys.executable, "-m", "dbt.cli.main", "build", "--project-dir", str(sandbox.project)]
    command += ["--profiles-dir", str(sandbox.project), "--log-level", "none", "--log-level-file", "debug"]

    def start(who: int) -> "subprocess.Popen[str]":
        work = sandbox.work / str(who)
        folders = ["--target-path", str(work / "target"), "--log-path", str(work / "logs")]
        variables = ["--vars", json.dumps({"who": who, "first": who * 1_000})]
        environment = {**os.environ, "FACTORY_LAKE_URI": root}
        return subprocess.Popen([*command, *folders, *variables], env=environment, stdout=subprocess.PIPE, text=True)

    assert start(1).wait(timeout=300) == 0
    waiting = [2, 3]
    for _ in range(4):
        started = {who: start(who) for who in waiting}
        waiting = [who for who, process in started.items() if process.wait(timeout=300) != 0]
        if not waiting:
            break
    assert rows(Lake(root), "marts/merged") == [(who * 1_000 + i, who) for who in (1, 2, 3) for i in range(50)]


def test_the_secret_is_nowhere_but_in_the_environment(sandbox: Sandbox, root: str, store: Store) -> None:
    write_models(sandbox)
    sandbox.model("broken", "select * from {{ source('bronze', 'events') }}")
    result = run_dbt(root, sandbox.work, ["--log-level-file", "debug", "build"], sandbox.project)
    assert not result.success
    assert root in complaints(result)
    run_dbt(root, sandbox.work, ["docs", "generate"], sandbox.project)
    written = [file for folder in (sandbox.work, sandbox.project) for file in folder.rglob("*") if file.is_file()]
    assert {"manifest.json", "dbt.log", "run_results.json", "catalog.json"} <= {file.name for file in written}
    assert [file for file in written if store.secret.encode() in file.read_bytes()] == []
    assert store.secret not in complaints(result)
