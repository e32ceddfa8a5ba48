"""dbt-duckdb plugin: every Delta table of the lake is a view, and models of the `delta` materialization are written back.

DuckDB lives in memory and keeps nothing. `dbt_lake_views` shows the lake when dbt connects, each table pinned at one
version. A model is written into a stage (`dbt_table_write`), which its view then shows to its tests and to the models
downstream. When the run ends, the stages whose tests passed are published (`dbt_publish`).

Profile:

    plugins:
      - module: factory_assets.storage.dbt.plugin
        alias: delta_lake            # the name that the `delta` materialization calls
        config:
          lake_uri: ../data/lake     # <lake_uri>/<schema>/<table>; relative to the dbt project
          lock_timeout_seconds: 3600 # how long a build waits for another one on the same local lake
          sandbox: ada               # read the lake, but write to <lake_uri>/../sandboxes/ada; absent: write to the lake

An object store's credentials stay in the variables that its own clients read (`object_stores`).
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from dbt.adapters.duckdb.credentials import DuckDBCredentials
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.adapters.duckdb.utils import TargetConfig
from dbt.adapters.factory import get_adapter_by_type
from dbt.flags import get_flags
from dbt_common.exceptions import DbtRuntimeError
from deltalake.exceptions import CommitFailedError, DeltaError

from factory_assets.storage.dbt.lake_views import LakeViews, find_lake
from factory_assets.storage.dbt.model_write import ModelWrite
from factory_assets.storage.dbt.runs import WITHOUT_LAKE
from factory_assets.storage.dbt.sandboxes import SandboxError
from factory_assets.storage.dbt.staged_run import StagedRun
from factory_assets.storage.delta.lake_lock import LakeBusyError
from factory_assets.storage.delta.log import UnwritableTableError
from factory_assets.storage.delta.snapshots import UnreadableTableError

# Neither is typed by dbt.
_find_adapter: Callable[[str], Any] = get_adapter_by_type
_find_flags: Callable[[], Any] = get_flags

_WRITING_COMMANDS = ("build", "run", "seed", "snapshot", "retry", "clone")
_LOCK_TIMEOUT_SECONDS = 3600.0


class Plugin(BasePlugin):
    """Delta tables in and out of dbt-duckdb. One instance lives as long as the DuckDB database behind it."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        """Read the profile's `config`; nothing is opened yet."""
        lake_uri = plugin_config.get("lake_uri")
        if not lake_uri:
            raise DbtRuntimeError(f"profiles.yml: plugin {self.name!r} needs config.lake_uri, the root of the lake")
        sandbox = plugin_config.get("sandbox")
        self._views = LakeViews(find_lake(str(lake_uri)), None if sandbox is None else str(sandbox))
        timeout = float(plugin_config.get("lock_timeout_seconds", _LOCK_TIMEOUT_SECONDS))
        self._run = StagedRun(self._views, timeout)

    def update_connection_config(self, creds: DuckDBCredentials, config: dict[str, Any]) -> None:
        """Keep what DuckDB spills out of the project folder, apart from other processes."""
        config.setdefault("temp_directory", str(Path(tempfile.gettempdir()) / f"factory-duckdb-{os.getpid()}"))

    def configure_cursor(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Make the lake visible, once for each dbt invocation. One that writes takes the lake first."""
        if os.environ.get(WITHOUT_LAKE):
            return
        try:
            self._run.begin(cursor, writes=getattr(_find_flags(), "WHICH", None) in _WRITING_COMMANDS)
        except (LakeBusyError, SandboxError) as error:
            raise DbtRuntimeError(str(error)) from error

    def store(self, target_config: TargetConfig) -> None:
        """Stage one model, or publish the run; what came of it is put into the config's `result`."""
        config = target_config.config
        try:
            if "publish" in config:
                config["result"].update(self._run.publish(**config["publish"]))
                return
            write = ModelWrite.from_target(target_config)
            self._views.refuse_the_past(write.schema, write.name)
            cursor = _find_adapter("duckdb").connections.get_thread_connection().handle.cursor()
            stage, rows = self._run.stage(cursor, write)
        except (CommitFailedError, UnreadableTableError, UnwritableTableError) as error:
            raise DbtRuntimeError(str(error)) from error
        except duckdb.CatalogException as error:
            raise DbtRuntimeError(
                f"{error}\nThe lake is {self._views.lake.root}: were the sources ingested into it?"
            ) from error
        except (duckdb.Error, DeltaError, pa.ArrowException) as error:
            raise DbtRuntimeError(str(error)) from error
        config["result"].update(base_version=stage.base_version, rows=rows)
