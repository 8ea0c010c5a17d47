"""More of `internals`: Dagster's history in SQLite, with what it does anew for each statement and each run done once.

Files, tables and statements are Dagster's own, and a history it made itself is read as it is. Left to Dagster, each
question makes an engine, which compiles its statements anew; each instance, of which a tick opens one, reads the
migration scripts to see that there is nothing to migrate; and each run's own file is made table by table and stamped,
91 ms of CPU. Here a process has one engine, looks once at each file, and copies an empty run's file that Dagster made.

Nothing is kept open between two statements, so that files may be removed, restored and forked past; but by a thread
that is at work on a run (`kept_open`).
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from dagster._core.storage.sqlite_storage import (
    DagsterSqliteStorage,
    _event_logs_directory,
    _runs_directory,
    _schedule_directory,
)
from dagster._serdes import ConfigurableClassData

# Dagster waits so long for a lock on events, and SQLite's own five seconds for one on runs and schedules.
_PATIENCE = 60.0
# What Dagster 1.13 stamps its files with (alembic). To a file with another version its own code is applied.
VERSION = "29b539ebc72a"
_SQLITE = "sqlite:///"
_wanted = threading.local()


class SqliteStorage(DagsterSqliteStorage):
    """What dagster.yaml names: runs, events and schedules below one folder, as `storage: sqlite` has them."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        """Open the three stores, and make them where they are not."""
        super(DagsterSqliteStorage, self).__init__()  # type: ignore[no-untyped-call]
        self.base_dir = base_dir
        self._run_storage = _Runs.from_local(_runs_directory(base_dir))
        self._event_log_storage = _Events(_event_logs_directory(base_dir))
        self._schedule_storage = _Schedules.from_local(_schedule_directory(base_dir))
        self._inst_data = inst_data

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> SqliteStorage:
        """Return the store of a dagster.yaml."""
        return cls.from_local(inst_data=inst_data, **config_value)


class _Runs(SqliteRunStorage):
    @classmethod
    def from_local(cls, base_dir: str, inst_data: ConfigurableClassData | None = None) -> _Runs:
        path = Path(base_dir).resolve() / "runs.db"
        if not _is_current(path):
            SqliteRunStorage.from_local(base_dir)
        return cls(f"{_SQLITE}{path}", inst_data)

    @contextmanager
    def connect(self) -> Iterator[sqlalchemy.Connection]:
        with _connected(self._conn_string.removeprefix(_SQLITE)) as connection:
            yield connection


class _Schedules(SqliteScheduleStorage):
    @classmethod
    def from_local(cls, base_dir: str, inst_data: ConfigurableClassData | None = None) -> _Schedules:
        path = Path(base_dir).resolve() / "schedules.db"
        if not _is_current(path):
            SqliteScheduleStorage.from_local(base_dir)
        return cls(f"{_SQLITE}{path}", inst_data)

    @contextmanager
    def connect(self) -> Iterator[sqlalchemy.Connection]:
        with _connected(self._conn_string.removeprefix(_SQLITE)) as connection:
            yield connection


class _Events(SqliteEventLogStorage):
    @contextmanager
    def _connect(self, shard: str) -> Iterator[sqlalchemy.Connection]:
        path = Path(self.path_for_shard(shard))
        # One at a time, as Dagster has it: threads that wait for each other in SQLite wait longer.
        with self._db_lock:
            if shard not in self._initialized_dbs:
                if shard != INDEX_SHARD_NAME and not path.exists():
                    _put_empty_run(path)
                if not _is_current(path):
                    self._initdb(_engine_of(path))
                self._initialized_dbs.add(shard)
            with _connected(str(path)) as connection:
                yield connection


def is_ours(storage: object) -> bool:
    """Whether an event log is one of this module."""
    return isinstance(storage, _Events)


def _is_current(path: Path) -> bool:
    """Whether a file is there and needs nothing of Dagster before it can be used."""
    if not path.exists():
        return False
    try:
        with closing(sqlite3.connect(path, timeout=_PATIENCE)) as connection:
            return connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(VERSION,)]
    except sqlite3.DatabaseError:
        return False  # Dagster says what is wrong with it, or makes it whole


def _put_empty_run(path: Path) -> None:
    """Make the file of a run. Where it cannot be put, Dagster's own way is left to make it, or to say why not."""
    new = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.new")
    with suppress(OSError):
        new.write_bytes(_empty_run())
        try:
            # Not over what another process has put there a moment ago, and may have written to.
            os.link(new, path)
        finally:
            new.unlink()


@cache
def _empty_run() -> bytes:
    """Return the file of a run without events, as Dagster makes one here and now."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        SqliteEventLogStorage._initdb(_NO_STORE, _engine_of(path))
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return path.read_bytes()


# Making tables asks nothing of the store whose they are.
_NO_STORE: Any = None


@contextmanager
def kept_open() -> Iterator[None]:
    """Keep the files that this thread uses open until the end, which is that of a run.

    A run asks a hundred things of three files. Whoever closes a file of SQLite as the last one writes its log into it
    and waits for the disk, and whoever opens it reads which tables there are.
    """
    if getattr(_wanted, "kept", None) is not None:
        yield
        return
    _wanted.kept, _wanted.used = {}, set()
    try:
        yield
    finally:
        kept, _wanted.kept = _wanted.kept, None
        for connection in kept.values():
            connection.close()


@contextmanager
def _connected(path: str) -> Iterator[sqlalchemy.Connection]:
    kept: dict[str, sqlalchemy.Connection] | None = getattr(_wanted, "kept", None)
    if kept is None or path in _wanted.used:
        with _opened(path) as connection, connection.begin():
            yield connection
        return
    if path in kept and kept[path].in_transaction():
        kept.pop(path).close()  # a run that is stopped may be interrupted between two lines of anything
    if path not in kept:
        kept[path] = _opened(path)
    _wanted.used.add(path)
    try:
        with kept[path].begin():
            yield kept[path]
    finally:
        _wanted.used.discard(path)


def _opened(path: str) -> sqlalchemy.Connection:
    _wanted.path = path
    return _engine().connect()


@cache
def _engine() -> sqlalchemy.Engine:
    """Return the engine of all files; which one, a thread says before it connects. It keeps statements, and no file."""
    return sqlalchemy.create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(_wanted.path, timeout=_PATIENCE),
        poolclass=sqlalchemy.NullPool,
    )


def _engine_of(path: Path) -> sqlalchemy.Engine:
    return sqlalchemy.create_engine(
        f"{_SQLITE}{path}", poolclass=sqlalchemy.NullPool, connect_args={"timeout": _PATIENCE}
    )
