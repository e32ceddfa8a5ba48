"""Whole dbt builds in processes of their own, forked from one that has dbt imported already, and what they may leave."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from factory_assets.storage.dbt import publish as dbt_publish
from factory_assets.storage.dbt import staged_run as dbt_staged_run
from factory_assets.storage.delta.lake import Lake
from tests.bronze_fixture import run_dbt

# The tables of the fixture `numbered`, each with the run's number.
TABLES = ("whole", "appended", "merged", "by_key")


def build(lake: str, work: str, project: str, number: int) -> None:
    """One `dbt build` with the var `number`; the process ends with dbt's exit code."""
    result = run_dbt(Path(lake), Path(work), ["build", "--vars", f"{{number: {number}}}"], Path(project))
    raise SystemExit(0 if result.success else 1)


def build_until_publishing(lake: str, work: str, project: str, number: int, published: int) -> None:
    """One `dbt build` that kills itself when it has published so many tables and is about to go on."""
    write, done = dbt_publish.write_commit, []
    record = dbt_publish.Publishes.write

    def die_in_time() -> None:
        if len(done) == published:
            os.kill(os.getpid(), signal.SIGKILL)

    def write_commit(*arguments: Any) -> None:
        die_in_time()
        write(*arguments)
        done.append(arguments)

    def write_record(journal: Any, changed: Any) -> Any:
        if done:
            die_in_time()
        return record(journal, changed)

    def finish_first(of: Lake) -> list[str]:
        names = dbt_publish.finish_interrupted(of)
        dbt_publish.write_commit = write_commit
        dbt_publish.Publishes.write = write_record  # type: ignore[method-assign]
        return names

    dbt_staged_run.finish_interrupted = finish_first
    build(lake, work, project, number)


def build_until_ctrl_c(lake: str, work: str, project: str, number: int) -> None:
    """One `dbt build` that is interrupted as by Ctrl-C while it stages its second model."""
    stage, staged = dbt_staged_run.stage_model, []

    def stage_model(*arguments: Any) -> Any:
        staged.append(arguments)
        if len(staged) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return stage(*arguments)

    dbt_staged_run.stage_model = stage_model
    # A shell has what it starts in the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    build(lake, work, project, number)


def build_server() -> ForkServerContext:
    """Where builds start without importing dbt again."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.dbt.builds"])
    return context


def start_build(
    server: ForkServerContext,
    lake: Path,
    work: Path,
    project: Path,
    number: int,
    *more: Any,
    target: Callable[..., None] = build,
) -> BaseProcess:
    """Start one build."""
    work.mkdir(parents=True, exist_ok=True)
    process = server.Process(target=target, args=(str(lake), str(work), str(project), number, *more))
    process.start()
    return process


def read_numbers(lake: Lake) -> dict[str, list[int]]:
    """The numbers in each of the tables as readers of several tables get them: of one completed run."""
    pinned = lake.pin_published(*(f"marts/{name}" for name in TABLES))
    return {
        name: [row["n"] for row in lake.query("select n from t order by n", t=table).to_pylist()]
        for name, table in zip(TABLES, pinned, strict=True)
    }


def read_completed(lake: Lake) -> int:
    """The number of the completed run that all of the tables show; fails where they do not show the same one."""
    found = read_numbers(lake)
    (seen,) = found["whole"]
    assert found["merged"] == found["by_key"] == [seen]
    assert found["appended"][-1] == seen
    assert len(set(found["appended"])) == len(found["appended"])
    return seen
