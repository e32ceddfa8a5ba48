"""Runs dbt for the factory: its manifest when the project changed, and builds inside this process.

Importing dbt costs about 4 s of CPU and parsing 3 s more, so a build reuses the process it is in and dbt's partial parse.
The factory keeps a target folder of its own: an analyst's `dbt build` in the project folder never meets it.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

# Set for a dbt that only compiles: the plugin then opens no table, so that reading definitions connects to nothing.
WITHOUT_LAKE = "FACTORY_DBT_WITHOUT_LAKE"
_ATTEMPTS = 3
_NOT_SOURCE = {"target", "logs", "dbt_packages", ".user.yml"}


class DbtParseError(RuntimeError):
    """The dbt project does not parse; the message is dbt's own."""


@dataclass(frozen=True)
class DbtOutcome:
    """What a build did.

    Attributes:
        success: Whether every node ended well and everything was published.
        events: dbt's structured events. They were sent before the run ended, so they tell what was built, not what readers
            can see.
        failures: A sentence for each node that did not succeed.
        versions: The Delta version that readers get of each model, by node; a model that is not here was held.
    """

    success: bool
    events: tuple[dict[str, Any], ...]
    failures: tuple[str, ...]
    versions: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class DbtRuns:
    """dbt over one project, with `work` as its own target folder and `lake_uri` as its lake."""

    project: Path
    work: Path
    lake_uri: str

    @property
    def target(self) -> Path:
        """Where compiled SQL and run results of the factory's own builds lie."""
        return self.work / "target"

    def read_manifest(self) -> dict[str, Any]:
        """The manifest of the project as it is on disk, with compiled SQL; made again only when a file of it changed.

        Compiled as for a full refresh, without a look at the lake.

        Raises:
            DbtParseError: with dbt's message.
        """
        self.work.mkdir(parents=True, exist_ok=True)
        stamp = _stamp(self.project)
        manifest, stamp_file = self.work / "manifest.json", self.work / "manifest.stamp"
        with FileLock(self.work / "manifest.lock"):
            if not (stamp_file.is_file() and stamp_file.read_text() == stamp and manifest.is_file()):
                self._compile_offline()
                shutil.copyfile(self.target / "manifest.json", manifest)
                stamp_file.write_text(stamp)
            loaded: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
            return loaded

    def build(self, select: Sequence[str], variables: Mapping[str, Any] | None = None) -> DbtOutcome:
        """`dbt build` in this process, of the selected nodes (all, when none is named) with their data tests.

        Unit tests judge the SQL and not the data, so they belong to `dbt build` by a person and to `make test`. Where
        another writer was faster, it is built again on what that one wrote.
        """
        for _ in range(_ATTEMPTS - 1):
            outcome, is_stale = self._build_once(select, variables)
            if not is_stale:
                return outcome
        return self._build_once(select, variables)[0]

    def _build_once(self, select: Sequence[str], variables: Mapping[str, Any] | None) -> tuple[DbtOutcome, bool]:
        from dbt.cli.main import dbtRunner

        from factory_assets.storage.dbt.staged_run import take_report
        from factory_assets.storage.delta.lake_lock import release_lake

        events: list[dict[str, Any]] = []
        command = [
            "build",
            *self._flags(),
            "--exclude-resource-type",
            "unit_test",
            "--log-level",
            "none",
            "--vars",
            json.dumps(dict(variables or {})),
        ]
        if select:
            command += ["--select", *select]
        take_report()
        try:
            with self._environment():
                result = dbtRunner(callbacks=[_collect(events)]).invoke(command)
        finally:
            release_lake()
        report = take_report()
        failures = [_describe_failure(node) for node in _results(result.result) if not _is_good(node)]
        if result.exception is not None:
            failures.append(f"dbt stopped: {str(result.exception) or type(result.exception).__name__}")
        versions = report.versions if report is not None else {}
        outcome = DbtOutcome(bool(result.success), tuple(events), tuple(failures), versions)
        return outcome, report is not None and report.is_stale

    def compile(self, full_refresh: bool) -> dict[str, Any]:
        """The manifest with the SQL of every node, as a full refresh or an incremental run over this lake would have it.

        Raises:
            DbtParseError: with dbt's message, when the project does not parse or a node does not compile.
        """
        from dbt.cli.main import dbtRunner

        command = ["compile", *self._flags(), "--log-level", "none", *(["--full-refresh"] if full_refresh else [])]
        with self._environment():
            result = dbtRunner().invoke(command)
        if not result.success:
            failures = [_describe_failure(node) for node in _results(result.result) if not _is_good(node)]
            failures += [str(result.exception)] if result.exception is not None else []
            raise DbtParseError(f"the dbt project in {self.project} does not compile:\n" + "\n".join(failures))
        loaded: dict[str, Any] = json.loads((self.target / "manifest.json").read_text(encoding="utf-8"))
        return loaded

    def _flags(self) -> list[str]:
        folders = {"--project-dir": self.project, "--profiles-dir": self.project}
        folders |= {"--target-path": self.target, "--log-path": self.work / "logs"}
        return [part for flag, folder in folders.items() for part in (flag, str(folder))]

    def _compile_offline(self) -> None:
        # A process of its own: reading definitions must not drag dbt into every code server and worker.
        command = [sys.executable, "-m", "dbt.cli.main", "--quiet", "compile", *self._flags()]
        manifest = self.target / "manifest.json"
        manifest.unlink(missing_ok=True)
        with self._environment():
            environment = {**os.environ, WITHOUT_LAKE: "true"}
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        # A model that asks the lake while it compiles fails by itself, and the manifest then lacks its compiled SQL alone.
        if not manifest.is_file():
            raise DbtParseError(f"the dbt project in {self.project} does not parse:\n{done.stdout}{done.stderr}".strip())

    @contextmanager
    def _environment(self) -> Iterator[None]:
        wanted = {"FACTORY_LAKE_URI": self.lake_uri, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _stamp(project: Path) -> str:
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(project.rglob("*")):
        relative = path.relative_to(project)
        if path.is_file() and relative.parts[0] not in _NOT_SOURCE:
            stat = path.stat()
            digest.update(f"{relative}|{stat.st_mtime_ns}|{stat.st_size}\n".encode())
    return digest.hexdigest()


def _collect(events: list[dict[str, Any]]) -> Callable[[Any], None]:
    from google.protobuf.json_format import MessageToDict

    def on_event(event: Any) -> None:
        if event.info.name.startswith("Log") and event.info.name.endswith("Result"):
            events.append(MessageToDict(event, preserving_proto_field_name=True))

    return on_event


def _results(result: Any) -> Sequence[Any]:
    return getattr(result, "results", None) or ()


def _is_good(node: Any) -> bool:
    return str(node.status) in ("success", "pass", "warn", "no-op")


def _describe_failure(node: Any) -> str:
    message = " ".join(str(node.message or "").split())
    return f"{node.node.resource_type} {node.node.name}: {node.status}" + (f": {message}" if message else "")
