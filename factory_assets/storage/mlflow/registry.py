"""The window: what the factory shows of its models in MLflow. The truth lies in Delta, and is written there first."""

import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from filelock import FileLock

from factory_assets.core.models.artefacts import digest
from factory_assets.core.serving.fleet_scoring import ServingModel
from factory_assets.storage.delta.lake import PinnedTable
from factory_assets.storage.mlflow.sqlite_store import SQLITE, make_sqlite_store

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION = "champion"
CYCLE_TAG = "factory.cycle"
# Without these `log_model` infers the environment by importing it anew: 5.6 s a model instead of 0.08 s.
_REQUIRED = ("scikit-learn", "pandas", "mlflow", "factory-assets")


@dataclass(frozen=True)
class TrainingRecord:
    """All that MLflow shall show of one training: numbers, pictures, pinned inputs, and the artefact.

    `pictures` are files by name; `bundle` is the file of models; `serving` lists what serves, see `serving_list`.
    """

    line: str
    cycle: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    pictures: Mapping[str, bytes]
    inputs: Sequence[tuple[PinnedTable, str]]
    bundle: Path
    serving: bytes
    example: pd.DataFrame
    example_scores: np.ndarray
    description: str = ""
    estimator_packages: Sequence[str] = ()


@dataclass(frozen=True)
class RegisteredVersion:
    """A registered model version, the run that made it, and MLflow's address of its files.

    `is_new` is false when the cycle was registered before, by a process that did not come to its end.
    """

    version: int
    run_id: str
    source: str
    is_new: bool


@dataclass(frozen=True)
class MlflowRegistry:
    """Writes MLflow's database directly; a server is only for reading."""

    tracking_uri: str
    artifact_root: str
    _ready: list[bool] = field(default_factory=list, repr=False, compare=False)

    def client(self) -> "MlflowClient":
        """A client on a store that exists. The first process makes it, under a lock: two at once corrupt a new SQLite."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        os.environ.setdefault("MLFLOW_LOG_UV_FILES", "false")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        import mlflow

        mlflow.set_tracking_uri(self.tracking_uri)
        if not self._ready and self.tracking_uri.startswith(SQLITE):
            self._prepare_sqlite(Path(self.tracking_uri.removeprefix(SQLITE)))
        self._ready.append(True)
        return mlflow.MlflowClient(self.tracking_uri)

    def _prepare_sqlite(self, database: Path) -> None:
        database.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{database}.lock"):
            if not database.exists():
                make_sqlite_store(database)
            # Readers do not block the writer in WAL mode (13 ms a run against 61); the mode stays in the file.
            with closing(sqlite3.connect(database)) as connection:
                connection.execute("pragma journal_mode = wal")

    def open_run(self, line: str, cycle: str, description: str) -> str:
        """The run of a cycle: that of its version, else that of a process which did not come to its end, else new."""
        client = self.client()
        known = self._find_version(client, line, cycle)
        return known.run_id if known is not None else self._open_run(client, line, cycle, description)

    def _open_run(self, client: "MlflowClient", line: str, cycle: str, description: str) -> str:
        experiment_id, name = self._experiment(client, line), f"{line} {cycle[:8]}"
        query = f"tags.`{CYCLE_TAG}` = '{cycle}' and attributes.run_name = '{name}'"
        for run in client.search_runs([experiment_id], query, max_results=1):
            client.update_run(run.info.run_id, "RUNNING")
            return str(run.info.run_id)
        tags = {CYCLE_TAG: cycle, "factory.line": line, "mlflow.note.content": description}
        return str(client.create_run(experiment_id, tags=tags, run_name=name).info.run_id)

    def fail_run(self, run_id: str) -> None:
        """Shows that the cycle of a run came to nothing."""
        self.client().set_terminated(run_id, "FAILED")

    def log_training(self, record: TrainingRecord) -> RegisteredVersion:
        """Logs and registers one training; the same cycle again returns the version it already has."""
        import mlflow

        client = self.client()
        known = self._find_version(client, record.line, record.cycle)
        if known is not None:
            return known
        run_id = self._open_run(client, record.line, record.cycle, record.description)
        with mlflow.start_run(run_id=run_id):
            source = self._log_model(record)
            client.log_batch(
                run_id,
                metrics=[_metric(name, value) for name, value in record.metrics.items()],
                params=[_param(name, value) for name, value in record.params.items()],
                tags=run_tags(record.tags),
            )
            self._log_inputs(record)
            for name, png in record.pictures.items():
                _log_bytes(client, run_id, name, png)
        return self._register(client, record, source, run_id)

    def log_page(self, run_id: str, name: str, content: bytes) -> None:
        """Keeps a file with a run, in the place of one of the same name."""
        _log_bytes(self.client(), run_id, name, content)

    def set_champion(self, line: str, version: int) -> None:
        """Points the alias at `version`. Called on every cycle, so that a lost alias comes back."""
        client = self.client()
        model = client.get_registered_model(line)
        if {str(k): str(v) for k, v in model.aliases.items()}.get(CHAMPION) != str(version):
            client.set_registered_model_alias(line, CHAMPION, str(version))

    def record_decision(self, line: str, version: int, promoted: bool, reason: str) -> None:
        """Shows the gate's decision on the version."""
        client = self.client()
        client.set_model_version_tag(line, str(version), "factory.gate", "promoted" if promoted else "kept_champion")
        client.set_model_version_tag(line, str(version), "factory.gate_reason", reason)

    def _experiment(self, client: "MlflowClient", line: str) -> str:
        found = client.get_experiment_by_name(line)
        if found is not None:
            return str(found.experiment_id)
        location = f"{self.artifact_root.rstrip('/')}/{line}"
        return str(client.create_experiment(line, artifact_location=location))

    def _find_version(self, client: "MlflowClient", line: str, cycle: str) -> RegisteredVersion | None:
        found = client.search_model_versions(f"name = '{line}' and tags.`{CYCLE_TAG}` = '{cycle}'")
        if not found:
            return None
        return RegisteredVersion(int(found[0].version), str(found[0].run_id), str(found[0].source), is_new=False)

    def _log_model(self, record: TrainingRecord) -> str:
        import mlflow

        with tempfile.TemporaryDirectory() as folder:
            bundle, serving = Path(folder) / "models.bundle", Path(folder) / "serving.json"
            shutil.copyfile(record.bundle, bundle)
            serving.write_bytes(record.serving)
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(Path(__file__).with_name("model.py")),
                artifacts={"bundle": str(bundle), "serving": str(serving)},
                model_config={"serving_sha256": digest(record.serving)},
                signature=mlflow.models.infer_signature(record.example, record.example_scores),
                pip_requirements=_requirements(record),
            )
        return str(info.model_uri)

    def _log_inputs(self, record: TrainingRecord) -> None:
        import mlflow
        from mlflow.data.delta_dataset_source import DeltaDatasetSource
        from mlflow.data.meta_dataset import MetaDataset

        for table, context in record.inputs:
            source = DeltaDatasetSource(path=table.handle.table_uri, delta_table_version=table.version)
            dataset = MetaDataset(source, name=table.name, digest=f"v{table.version}")  # type: ignore[abstract]
            # DeltaDatasetSource drops version 0 (a falsy test), so the version is a tag as well.
            mlflow.log_input(dataset, context=context, tags={"delta_version": str(table.version)})

    def _register(self, client: "MlflowClient", record: TrainingRecord, source: str, run_id: str) -> RegisteredVersion:
        create_registered_model(client, record.line, {"factory.line": record.line}, record.description)
        tags = {CYCLE_TAG: record.cycle, **record.tags}
        version = client.create_model_version(
            record.line, source, run_id, tags=tags, model_id=source.removeprefix("models:/")
        )
        return RegisteredVersion(int(version.version), run_id, source, is_new=True)


def serving_list(levels: Sequence[Sequence[str]], task: str, models: Iterable[ServingModel]) -> bytes:
    """What the pyfunc reads of the models that serve: key columns, task, and each model's segment, hash and features."""
    kinds: dict[tuple[tuple[str, ...], tuple[str, ...]], int] = {}
    listed = [
        [model.segment, model.sha256, kinds.setdefault((model.numeric, model.categorical), len(kinds))]
        for model in sorted(models, key=lambda model: model.segment)
    ]
    content = {"levels": levels, "task": task, "kinds": list(kinds), "models": listed}
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def create_registered_model(client: "MlflowClient", name: str, tags: Mapping[str, str], description: str) -> None:
    """Creates a registered model, unless it is there."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, tags=dict(tags), description=description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _requirements(record: TrainingRecord) -> list[str]:
    return sorted({*(f"{name}=={package_version(name)}" for name in _REQUIRED), *record.estimator_packages})


def run_tags(tags: Mapping[str, str]) -> list[Any]:
    """Tags of a run as `log_batch` takes them."""
    from mlflow.entities import RunTag

    return [RunTag(name, value) for name, value in tags.items()]


def _metric(name: str, value: float) -> Any:
    from mlflow.entities import Metric

    return Metric(name, value, int(time.time() * 1000), 0)


def _param(name: str, value: str) -> Any:
    from mlflow.entities import Param

    return Param(name, value)


def _log_bytes(client: "MlflowClient", run_id: str, name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        client.log_artifact(run_id, str(path))
