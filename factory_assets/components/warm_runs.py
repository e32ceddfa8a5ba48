"""Runs start from a process that has its imports done: nine seconds of CPU less for each, of which many train for less.

Dagster's code server spawns an interpreter for each run, which imports everything anew. Here, in the code server alone, that
process is forked by a fork server instead (`multiprocessing`'s own), which imports once and never does anything else: no
thread, no connection and no table is there that a fork could break. The only module that touches this half-internal part
of Dagster, and a test holds it to the pinned minor version.
"""

import multiprocessing
import sys
from collections.abc import Sequence
from multiprocessing import context, forkserver
from typing import Any

# What a run imports before it does anything, but no definitions: those are built from the files as they are at its start.
# Some of it is imported late elsewhere, so that a command starts quickly. A name that is none is passed over.
PRELOADED = (
    "dagster._grpc.impl",
    "factory_assets.definitions",
    "factory_assets.components",
    "factory_assets.components.dbt_assets",
    "factory_assets.storage.dbt.plugin",
    "dbt.adapters.duckdb",
    "dbt.cli.main",
    "dbt.task.build",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "sklearn.ensemble",
    "sqlglot.dialects.duckdb",
    "factory_assets.components.frozen_imports",
)
_SERVERS = (["api", "grpc"], ["code-server", "start"])


def is_code_server(arguments: Sequence[str]) -> bool:
    """Whether a process of these arguments is Dagster's code server."""
    return list(arguments[1:3]) in _SERVERS


def start_runs_warm() -> bool:
    """Has a code server fork its runs from now on, and gets the fork server going; elsewhere it does nothing.

    Called again and again it is quick, and starts the fork server anew should it have died. Returns whether runs are forked.
    """
    if sys.platform != "linux" or not is_code_server(sys.argv):
        return False
    spawning: Any = multiprocessing.get_context("spawn")
    if spawning.Process is not context.ForkServerProcess:
        forkserver.set_forkserver_preload(list(PRELOADED))
        # The context is one object a process, which Dagster's server holds: its queues and events fit both kinds of start.
        spawning.Process = context.ForkServerProcess
    forkserver.ensure_running()
    return True
