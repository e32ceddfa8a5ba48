"""MLflow's own database on one machine, made whole or not at all."""

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

SQLITE = "sqlite:///"


def make_sqlite_store(database: Path) -> None:
    """Makes an empty store at `database`, which is not there yet; the caller holds its lock.

    MLflow makes its tables by sixty migrations, and SQLite keeps each as it comes: a store whose making was cut off can
    neither be used nor made to its end. So it is made elsewhere, and put in its place when it is done.
    """
    import mlflow

    with tempfile.TemporaryDirectory(prefix="factory-mlflow-") as scratch, _unsynced():
        made = Path(scratch) / "mlflow.db"
        mlflow.MlflowClient(f"{SQLITE}{made}").search_experiments(max_results=1)
        with closing(sqlite3.connect(made)) as connection:
            content = connection.serialize()
    fresh = database.with_name(f"{database.name}.new")
    with fresh.open("wb") as file:
        file.write(content)
        os.fsync(file.fileno())
    fresh.replace(database)


@contextmanager
def _unsynced() -> Iterator[None]:
    """No statement of this process waits for the disk meanwhile: a scratch file has no power cut to outlive."""

    def ease(connection: Any, _record: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("pragma synchronous = off")

    event.listen(Engine, "connect", ease)
    try:
        yield
    finally:
        event.remove(Engine, "connect", ease)
