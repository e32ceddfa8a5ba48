"""A small lake with one feature set and one label table, a real MLflow store, and a line on them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from factory_assets.contracts.segments import ALL
from factory_assets.core.models.prediction import predict_scores
from factory_assets.lines.serving import open_fleet
from factory_assets.lines.stores import LineStores
from factory_assets.storage.artefact_store import ArtefactStore
from factory_assets.storage.delta.lake import Lake, TableSpec
from factory_assets.storage.mlflow.registry import MlflowRegistry
from tests.declared_lines import thing_line

START = datetime(2013, 1, 1, tzinfo=UTC)
NOW = START + timedelta(days=40)
HOURS = 24 * 60
SPEC = thing_line()


def write_things(lake: Lake, shift: float = 0.0, hours: int = HOURS) -> None:
    """One thing an hour for 60 days: `x` decides the label, which is known two hours later."""
    random = np.random.default_rng(7)
    at = [START + timedelta(hours=hour) for hour in range(hours)]
    x = random.normal(size=hours) + shift * (np.arange(hours) > 24 * 33)
    late = (x + random.normal(scale=0.5, size=hours)) > 0
    stamps = pa.array(at, pa.timestamp("us", tz="UTC"))
    features = pa.table(
        {"id": pa.array(range(hours), pa.int64()), "at": stamps, "x": x, "kind": [str(hour % 3) for hour in range(hours)]}
    )
    known = pa.array([moment + timedelta(hours=2) for moment in at], pa.timestamp("us", tz="UTC"))
    labels = pa.table({"id": pa.array(range(hours), pa.int64()), "late": late, "known_at": known})
    lake.replace(TableSpec("features/feat_thing", features.schema, ("id",)), features)
    lake.replace(TableSpec("marts/fct_thing", labels.schema, ("id",)), labels)


def change_labels(lake: Lake, flip: bool = False, more: bool = False) -> None:
    """From day 40 on labels are the opposite for half of the things (`flip`), or true for most (`more`)."""
    labels = lake.query("select * from t order by id", t=lake.pin("marts/fct_thing"))
    ids, late = labels["id"].to_numpy(), labels["late"].to_numpy(zero_copy_only=False).copy()
    late_ids = ids >= 24 * 40
    late = np.where(flip & late_ids & (ids % 2 == 0), ~late, late) | (more & late_ids & (ids % 4 > 0))
    changed = labels.set_column(labels.column_names.index("late"), "late", pa.array(late))
    lake.replace(TableSpec("marts/fct_thing", changed.schema, ("id",)), changed)


def load_served(stores: LineStores) -> Any:
    """The model of all rows as scoring loads it."""
    fleet = open_fleet(stores, stores.versions.standing(stores.spec.name))
    return fleet.load(fleet.models[ALL])


def predict_as_served(stores: LineStores, frame: pd.DataFrame) -> np.ndarray:
    """What the model of all rows that serves says of raw feature columns."""
    champion = stores.versions.standing(stores.spec.name).serving[ALL]
    return predict_scores(load_served(stores), frame, champion.numeric, champion.categorical, stores.spec.task)


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh MLflow database, made once: the schema takes two seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowRegistry(f"sqlite:///{path}", str(path.parent / "artifacts")).client()
    return path


@pytest.fixture
def stores(tmp_path: Path, empty_mlflow: Path) -> Any:
    import sqlite3

    with sqlite3.connect(empty_mlflow) as source, sqlite3.connect(tmp_path / "mlflow.db") as target:
        source.backup(target)
    lake = Lake(str(tmp_path / "lake"))
    write_things(lake)
    registry = MlflowRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}", str(tmp_path / "artifacts"))
    return LineStores(SPEC, lake, ArtefactStore(tmp_path / "models"), registry)
