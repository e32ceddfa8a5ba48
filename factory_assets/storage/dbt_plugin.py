"""dbt-duckdb plugin: every Delta table of the lake is a view, and models of the `delta` materialization are written back.

DuckDB lives in memory and keeps nothing. `dbt_lake_views` shows the lake when dbt connects, each table pinned at one
version. A model is written through the handle that was pinned (`dbt_table_write`); then its view shows the new version
to the models downstream.

Profile:

    plugins:
      - module: factory_assets.storage.dbt_plugin
        alias: delta_lake            # the name that the `delta` materialization calls
        config:
          lake_uri: ../data/lake     # <lake_uri>/<schema>/<table>; relative to the dbt project

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
from dbt_common.exceptions import DbtRuntimeError
from deltalake.exceptions import CommitFailedError, DeltaError

from factory_assets.storage.dbt_lake_views import LakeViews, find_lake
from factory_assets.storage.dbt_model_write import ModelWrite
from factory_assets.storage.dbt_runs import WITHOUT_LAKE
from factory_assets.storage.dbt_table_write import rows_written, write_model

# Not typed by dbt.
_find_adapter: Callable[[str], Any] = get_adapter_by_type


class Plugin(BasePlugin):
    """Delta tables in and out of dbt-duckdb. One instance lives as long as the DuckDB database behind it."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        """Read the profile's `config`; nothing is opened yet."""
        lake_uri = plugin_config.get("lake_uri")
        if not lake_uri:
            raise DbtRuntimeError(f"profiles.yml: plugin {self.name!r} needs config.lake_uri, the root of the lake")
        self._views = LakeViews(find_lake(str(lake_uri)))

    def update_connection_config(self, creds: DuckDBCredentials, config: dict[str, Any]) -> None:
        """Keep what DuckDB spills out of the project folder, apart from other processes."""
        config.setdefault("temp_directory", str(Path(tempfile.gettempdir()) / f"factory-duckdb-{os.getpid()}"))

    def configure_cursor(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Make the lake visible, once for each dbt invocation."""
        if not os.environ.get(WITHOUT_LAKE):
            self._views.show_lake(cursor)

    def store(self, target_config: TargetConfig) -> None:
        """Write one model. `version` and `rows` are put into the config's `result` for the materialization to report."""
        lake = self._views.lake
        try:
            write = ModelWrite.from_target(target_config)
            cursor = _find_adapter("duckdb").connections.get_thread_connection().handle.cursor()
            current = self._views.pinned(write.schema, write.name)
            version_before = None if current is None else current.version()
            uri = lake.uri(f"{write.schema}/{write.name}")
            table = write_model(cursor, write, current, uri, lake.storage_options)
            self._views.show(cursor, write.schema, write.name, table)
        except CommitFailedError as error:
            raise DbtRuntimeError(
                "the table was changed by another writer after this run had read it, so nothing was written: "
                f"run the model again. ({_first_line(error)})"
            ) from error
        except duckdb.CatalogException as error:
            raise DbtRuntimeError(f"{error}\nThe lake is {lake.root}: were the sources ingested into it?") from error
        except (duckdb.Error, DeltaError, pa.ArrowException) as error:
            raise DbtRuntimeError(str(error)) from error
        result = target_config.config["result"]
        result["version"] = table.version()
        result["rows"] = 0 if table.version() == version_before else rows_written(table)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
