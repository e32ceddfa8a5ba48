"""One dbt invocation over the lake: it takes the lake, stages models, and publishes what may be published.

dbt keeps a plugin between the invocations of one process, so what belongs to one of them is dropped when the next begins.
"""

import atexit
import sys
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
from dbt_common.invocation import get_invocation_id

from factory_assets.core.transformations.publishing import AuditTest, decide_publish
from factory_assets.storage.dbt.held_stages import read_held
from factory_assets.storage.dbt.lake_views import LakeViews
from factory_assets.storage.dbt.model_write import ModelWrite
from factory_assets.storage.dbt.publish import PublishReport, finish_interrupted, publish_stages, sweep_stages
from factory_assets.storage.dbt.table_metadata import describe_stage
from factory_assets.storage.dbt.table_write import stage_model
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.delta.lake_lock import release_lake, take_lake
from factory_assets.storage.delta.snapshots import FileSet
from factory_assets.storage.delta.table_place import TablePlace
from factory_assets.storage.delta.table_stage import Stage, open_stage
from factory_assets.storage.sql import literal
from factory_assets.storage.tables.publishes import Publishes

_TEST_COMMANDS = ("build", "retry")
_MODEL_TYPES = ("model", "seed", "snapshot")
_REPORTS: list[PublishReport] = []
_BEFORE = "this run ended before it could publish: readers keep what they had, and the next build starts anew"
_AMIDST = (
    "this run ended while it published: readers of several tables keep the last completed run, and the next build "
    "finishes what this one began"
)


def take_report() -> PublishReport | None:
    """What the newest dbt invocation of this process published; None when it ended before it could, or was taken."""
    return _REPORTS.pop() if _REPORTS else None


class StagedRun:
    """The stages of the invocation that is under way."""

    def __init__(self, views: LakeViews, lock_timeout_seconds: float) -> None:
        self._views = views
        self._lock_timeout_seconds = lock_timeout_seconds
        self._stages: dict[tuple[str, str], Stage] = {}
        self._locks: dict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)
        self._begin_lock = threading.Lock()
        self._id = ""
        self._unfinished = ""
        # Nothing of dbt's own comes after Ctrl-C: it runs no hook then, and says no more than that it was interrupted.
        atexit.register(self._say_unfinished)

    @property
    def _lake(self) -> Lake:
        """Asked each time: a sandbox may be another one in the next invocation of this process."""
        return self._views.lake

    @property
    def _folder(self) -> Path | None:
        """An object store has no lock; there the version of each commit alone decides."""
        return TablePlace(self._lake.root).local

    def begin(self, cursor: duckdb.DuckDBPyConnection, writes: bool) -> None:
        """Shows the lake. One that writes has it for itself, and finishes first what a killed one left half done."""
        with self._begin_lock:
            if self._id == get_invocation_id():
                return
            if writes:
                if self._folder is not None:
                    take_lake(self._folder, self._lock_timeout_seconds)
                finish_interrupted(self._lake)
                sweep_stages(self._lake)
                self._unfinished = _BEFORE
            self._stages.clear()
            _REPORTS.clear()
            self._views.show_lake(cursor, _read_publishes)
            self._id = get_invocation_id()

    def stage(self, cursor: duckdb.DuckDBPyConnection, write: ModelWrite) -> tuple[Stage, int]:
        """Stages one model, or one batch of it, and lets its view show the stage; returns it and the rows it brought."""
        place = (write.schema, write.name)
        with self._locks[place]:
            current = self._views.pinned(*place)
            before = self._stages.get(place)
            if write.strategy == "microbatch":
                # dbt asks for each batch as if it were alone.
                continues = before is not None or (current is not None and not write.is_full_refresh)
                write = replace(write, is_incremental=continues)
            if before is None or not write.is_incremental:
                table = TablePlace(self._lake.uri(f"{write.schema}/{write.name}"))
                record = {"dbt_node": write.node, "dbt_invocation_id": get_invocation_id(), **write.record}
                before = open_stage(write.node, uuid4().hex[:12], table, current, record)
                if current is not None and write.is_incremental:
                    # The model reads itself as the stage continues it, also where no completed run has that version.
                    self._views.show(cursor, *place, current)
            stage = describe_stage(stage_model(cursor, write, before, current), current, write.metadata)
            self._views.show_files(cursor, *place, stage.state.file_set())
            self._stages[place] = stage
            return stage, stage.rows - before.rows

    def publish(
        self,
        results: Sequence[Any],
        nodes: Mapping[str, Mapping[str, Any]],
        command: str,
        publish_unaudited: bool,
    ) -> dict[str, Any]:
        """Publishes what the run has staged; `sql` of what is returned fails, with the reasons, unless all is well."""
        self._unfinished = _AMIDST
        stages = {stage.node: stage for stage in self._stages.values()}
        decision = decide_publish(
            staged=stages,
            results={result.node.unique_id: str(result.status) for result in results},
            tests=[_audit_test(node) for node in nodes.values() if node["resource_type"] == "test"],
            parents={name: node.get("depends_on", {}).get("nodes", ()) for name, node in nodes.items()},
            runs_tests=command in _TEST_COMMANDS,
            publish_unaudited=publish_unaudited,
        )
        try:
            report = publish_stages(self._lake, stages, decision, get_invocation_id())
        finally:
            if self._folder is not None:
                release_lake(self._folder)
        self._unfinished = ""
        _REPORTS[:] = [report]
        names = {stage.node: "/".join(place) for place, stage in self._stages.items()}
        said = [f"{names[node]} {problem}" for node, problem in sorted(report.problems.items())]
        if not said:
            return {"sql": "", "published": len(report.versions)}
        return {"sql": f"select error({literal('NOT PUBLISHED' + chr(10) + chr(10).join(said))})", "published": 0}

    def _say_unfinished(self) -> None:
        if self._unfinished:
            sys.stderr.write(f"NOT PUBLISHED\n{self._unfinished}\n")


def _read_publishes(lake: Lake) -> tuple[Mapping[str, int], Mapping[str, FileSet]]:
    publishes = Publishes.read(lake)
    return publishes.versions, read_held(publishes)


def _audit_test(node: Mapping[str, Any]) -> AuditTest:
    severity = str((node.get("config") or {}).get("severity") or "error").lower()
    reads = tuple(name for name in node["depends_on"]["nodes"] if name.split(".")[0] in _MODEL_TYPES)
    return AuditTest(node["unique_id"], node["name"], severity == "error", reads)
