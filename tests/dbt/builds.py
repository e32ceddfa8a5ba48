"""Whole dbt builds in processes of their own, forked from one that has dbt imported already."""

import multiprocessing
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.bronze_fixture import run_dbt


def build(lake: str, work: str, project: str, number: int) -> None:
    """One `dbt build` with the var `number`; the process ends with dbt's exit code."""
    arguments = ["build", "--vars", f"{{number: {number}}}"]
    result = run_dbt(Path(lake), Path(work), arguments, Path(project))
    raise SystemExit(0 if result.success else 1)


def build_server() -> ForkServerContext:
    """Where builds start without importing dbt again."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.dbt.builds"])
    return context


def start_build(server: ForkServerContext, lake: Path, work: Path, project: Path, number: int) -> BaseProcess:
    """Start one build."""
    process = server.Process(target=build, args=(str(lake), str(work), str(project), number))
    process.start()
    return process
