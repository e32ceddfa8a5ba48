"""MLflow's database is whole or not there, wherever its making is cut off."""

import multiprocessing
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from factory_assets.storage.mlflow.registry import MlflowRegistry

_FORKS = multiprocessing.get_context("forkserver")


def open_store(root: Path) -> None:
    scratch = root / "scratch"
    scratch.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = str(scratch)
    MlflowRegistry(f"sqlite:///{root / 'mlflow' / 'mlflow.db'}", str(root / "artifacts")).client().create_experiment("line")


def tables_made_below(root: Path) -> int:
    for database in root.rglob("mlflow.db"):
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            try:
                return int(connection.execute("select count(*) from sqlite_master where type = 'table'").fetchone()[0])
            except sqlite3.OperationalError:  # being written at this moment
                continue
    return 0


def test_a_store_whose_making_was_killed_is_made_by_the_next_process(tmp_path: Path) -> None:
    database = tmp_path / "mlflow" / "mlflow.db"
    child = _FORKS.Process(target=open_store, args=(tmp_path,))
    child.start()
    while tables_made_below(tmp_path) < 12 and child.is_alive():
        time.sleep(0.005)
    child.kill()
    child.join()
    assert child.exitcode == -9, "made before it could be killed"
    assert not database.exists()
    following = _FORKS.Process(target=open_store, args=(tmp_path,))
    following.start()
    following.join()
    assert following.exitcode == 0
    assert [path.name for path in database.parent.glob("*.new")] == []
