import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg
import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

import factory_assets
from factory_assets.definitions import build_definitions
from factory_assets.settings import FactorySettings
from factory_assets.storage import sqlite_files
from factory_assets.storage.mlflow.registry import MlflowRegistry
from factory_assets.storage.sqlite_files import HeldFiles


@pytest.fixture(autouse=True)
def without_the_processes_own() -> Iterator[None]:
    """Definitions that another test loaded would hold the files too."""
    held = event.contains(Engine, "connect", sqlite_files.files.ease)
    if held:
        event.remove(Engine, "connect", sqlite_files.files.ease)
    yield
    if held:
        event.listen(Engine, "connect", sqlite_files.files.ease)


@pytest.fixture
def files() -> Iterator[HeldFiles]:
    held = HeldFiles(most=2)
    event.listen(Engine, "connect", held.ease)
    yield held
    event.remove(Engine, "connect", held.ease)


def write_row(path: Path) -> None:
    """As Dagster does: an engine and a connection for one statement."""
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("pragma journal_mode = wal"))
        connection.execute(text("create table if not exists t (x integer)"))
        connection.execute(text("insert into t values (1)"))
        connection.commit()
    engine.dispose()


def count_rows(path: Path) -> int:
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    with engine.connect() as connection:
        return int(connection.execute(text("select count(*) from t")).scalar_one())


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def test_without_it_each_close_folds_the_log_into_the_file(tmp_path: Path) -> None:
    write_row(tmp_path / "a.db")
    assert not log_of(tmp_path / "a.db").exists()


def test_the_log_stays_open_between_two_statements(files: HeldFiles, tmp_path: Path) -> None:
    write_row(tmp_path / "a.db")
    write_row(tmp_path / "a.db")
    assert log_of(tmp_path / "a.db").exists()
    assert count_rows(tmp_path / "a.db") == 2


def test_the_file_used_longest_ago_is_let_go(files: HeldFiles, tmp_path: Path) -> None:
    for name in ("a.db", "b.db"):
        write_row(tmp_path / name)
        write_row(tmp_path / name)
    write_row(tmp_path / "c.db")
    assert not log_of(tmp_path / "a.db").exists()
    assert log_of(tmp_path / "b.db").exists()


def _write_and_die(path: Path) -> None:
    event.listen(Engine, "connect", HeldFiles().ease)
    for _ in range(20):
        write_row(path)
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_was_committed_outlives_a_killed_process(tmp_path: Path) -> None:
    writer = multiprocessing.get_context("spawn").Process(target=_write_and_die, args=(tmp_path / "a.db",))
    writer.start()
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    assert count_rows(tmp_path / "a.db") == 20


def test_a_forked_child_opens_its_own_and_leaves_the_parents_alone(files: HeldFiles, tmp_path: Path) -> None:
    write_row(tmp_path / "a.db")
    child = multiprocessing.get_context("fork").Process(target=write_row, args=(tmp_path / "a.db",))
    child.start()
    child.join()
    assert child.exitcode == 0
    write_row(tmp_path / "a.db")
    assert count_rows(tmp_path / "a.db") == 3


def test_dagsters_storages_share_the_engine_of_an_address_and_read_what_they_wrote(tmp_path: Path) -> None:
    build_definitions(Path(factory_assets.__file__).parent / "no_declarations", FactorySettings(data_dir=tmp_path / "data"))
    made: list[str] = []

    def count(url: str, **options: Any) -> Engine:
        made.append(url)
        return create_engine(url, **options)

    sqlite_files._shared_engine.cache_clear()
    with patch.object(sqlite_files, "create_engine", count), dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        for number in range(3):
            instance.report_runless_asset_event(dg.AssetMaterialization("a", metadata={"number": number}))
        event = instance.get_latest_materialization_event(dg.AssetKey("a"))
        assert event is not None
        assert event.asset_materialization is not None
        assert event.asset_materialization.metadata["number"].value == 2
    assert made
    assert len(set(made)) == len(made)


def test_only_an_engine_that_holds_no_connection_is_shared(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    assert sqlite_files.find_engine(url, poolclass=NullPool) is sqlite_files.find_engine(url, poolclass=NullPool)
    waiting = sqlite_files.find_engine(url, poolclass=NullPool, connect_args={"timeout": 5})
    assert waiting is not sqlite_files.find_engine(url, poolclass=NullPool)
    assert sqlite_files.find_engine(url) is not sqlite_files.find_engine(url)


def test_a_connection_gets_a_setting_once(tmp_path: Path) -> None:
    sqlite_files.ease_sqlite()
    engine = create_engine(f"sqlite:///{tmp_path / 'some.db'}")
    executed: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda c, cursor, statement, *more: executed.append(statement))
    on, off, asked = "PRAGMA foreign_keys = ON;", "PRAGMA foreign_keys = OFF;", "PRAGMA foreign_keys"

    def run(*statements: str) -> int:
        executed.clear()
        with Session(engine) as session:
            for statement in statements:
                result = session.execute(text(statement))
            return int(result.scalar_one()) if result.returns_rows else 0

    assert run(on, on, asked) == 1
    assert executed == [on, asked]
    # Another session on the same connection, and another value.
    assert run(on, off, asked) == 0
    assert executed == [off, asked]
    assert run(on, asked) == 1
    engine.dispose()
    assert run(on, asked) == 1
    assert executed == [on, asked]


def test_a_run_in_mlflow_sets_nothing_anew(tmp_path: Path) -> None:
    sqlite_files.ease_sqlite()
    client = MlflowRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}", str(tmp_path)).client()
    executed: list[str] = []

    def listen(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        executed.append(statement)

    def log_run() -> list[str]:
        executed.clear()
        run_id = client.create_run("0").info.run_id
        client.log_metric(run_id, "roc_auc", 0.7)
        client.set_terminated(run_id)
        return [statement for statement in executed if statement.startswith("PRAGMA")]

    event.listen(Engine, "before_cursor_execute", listen)
    try:
        log_run()
        assert log_run() == []
    finally:
        event.remove(Engine, "before_cursor_execute", listen)
