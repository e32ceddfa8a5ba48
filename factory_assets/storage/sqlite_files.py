"""How this process holds the SQLite files of Dagster and MLflow: open, and synced when their log is folded in.

Dagster opens a connection for each statement. Each time it is the only one on its file, closing it folds the write-ahead
log into the database and syncs both to disk, and each commit syncs the log: four to six waits for the disk an event. Here
one idle connection a file stays open, so that the log is folded in when it has grown, and commits no longer wait
(`synchronous = normal`).

It also makes an engine of SQLAlchemy's for each connection, and throws the compiled statements away with it, so that each is
compiled anew. Here there is one engine for a file's address; it holds no connection.

MLflow sets the same three pragmas at the start of each of its sessions, of which it opens five to write a run: a sixth of
the time. Here a connection that has a setting does not get it again.

What is committed outlives the process, however it ends. A power cut may take the last commits, and never damages the file:
the same as for Delta commits, which are not synced either.
"""

import os
import re
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from types import ModuleType
from typing import Any

from sqlalchemy import TextClause, create_engine, event
from sqlalchemy.engine import Engine, IteratorResult, Result
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.orm import ORMExecuteState, Session
from sqlalchemy.pool import NullPool

# Dagster keeps a file for each run; only those of the newest runs are written.
MOST_FILES = 8
_SETTING = re.compile(r"PRAGMA (\w+) = (\w+);?")
_SETTINGS = "pragmas"


class HeldFiles:
    """One idle connection for each of the files that were used last; those of the parent are left alone after a fork."""

    def __init__(self, most: int = MOST_FILES) -> None:
        self.most = most
        self._held: OrderedDict[str, sqlite3.Connection] = OrderedDict()
        self._process = os.getpid()
        self._lock = threading.Lock()

    def ease(self, connection: Any, _record: Any = None) -> None:
        """Called with each new connection of the process; those of other databases are none of its business."""
        if not isinstance(connection, sqlite3.Connection):
            return
        connection.execute("pragma synchronous = normal")
        (_, _, path) = connection.execute("pragma database_list").fetchone()
        if path:
            self.hold(path)

    def hold(self, path: str) -> None:
        """Keeps `path` open, and closes the file that was used longest ago when there are too many."""
        with self._lock:
            if self._process != os.getpid():
                # Closing a connection that was opened before the fork would drop the parent's locks.
                self._held, self._process = OrderedDict(), os.getpid()
            if path not in self._held:
                self._held[path] = sqlite3.connect(path, check_same_thread=False)
            self._held.move_to_end(path)
            # A file may have got its write-ahead log only now; reading joins it.
            self._held[path].execute("select 1 from sqlite_master limit 1").fetchone()
            while len(self._held) > self.most:
                self._held.popitem(last=False)[1].close()


files = HeldFiles()


def ease_sqlite(*storages: ModuleType) -> None:
    """Does so for every SQLite connection that SQLAlchemy opens in this process from now on.

    `storages` are modules that make an engine for each connection by the name `create_engine`; they get theirs from
    `find_engine`. One that no longer has that name is left as it is.
    """
    if not event.contains(Engine, "connect", files.ease):
        event.listen(Engine, "connect", files.ease)
    if not event.contains(Session, "do_orm_execute", set_once):
        event.listen(Session, "do_orm_execute", set_once)
    for storage in storages:
        if getattr(storage, "create_engine", None) is create_engine:
            storage.create_engine = find_engine  # type: ignore[attr-defined]


def set_once(state: ORMExecuteState) -> Result[Any] | None:
    """Answers a pragma that its connection was given before, with the same value; None has anything else executed."""
    statement = state.statement
    setting = _SETTING.fullmatch(statement.text) if isinstance(statement, TextClause) else None
    if setting is None:
        return None
    # SQLAlchemy keeps this dictionary as long as the connection to the database itself.
    known = state.session.connection().info.setdefault(_SETTINGS, {})
    name, value = setting.groups()
    if known.get(name) == value:
        return IteratorResult(SimpleResultMetaData([]), iter(()))
    known[name] = value
    return None


def find_engine(url: str, poolclass: Any = None, connect_args: Mapping[str, Any] | None = None, **more: Any) -> Engine:
    """The engine of an address: one for all who ask for it without a pool, as it then holds no connection of its own."""
    if poolclass is not NullPool or more:
        return create_engine(url, poolclass=poolclass, connect_args=dict(connect_args or {}), **more)
    return _shared_engine(url, tuple(sorted((connect_args or {}).items())))


@lru_cache(maxsize=4 * MOST_FILES)
def _shared_engine(url: str, connect_args: tuple[tuple[str, Any], ...]) -> Engine:
    return create_engine(url, poolclass=NullPool, connect_args=dict(connect_args))
