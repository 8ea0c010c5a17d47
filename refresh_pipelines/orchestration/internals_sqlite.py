"""More of `internals`: Dagster's history in SQLite, with what it does anew for each statement and each run done once.

Files, tables and statements are Dagster's own, and a history it made itself is read as it is. Left to Dagster, each
question makes an engine, which compiles its statements anew; each instance, of which a tick opens one, reads the
migration scripts to see that there is nothing to migrate; and each run's own file is made table by table and stamped,
91 ms of CPU. Here a process has one engine, looks once at each file, and copies an empty run's file that Dagster made.

Nothing is kept open between two statements, so that files may be removed, restored and forked past.
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
_VERSION = "SELECT version_num FROM alembic_version"
_wanted = threading.local()
# Files of runs and schedules that this process has seen to be there and of Dagster's version.
_seen: set[tuple[str, int]] = set()


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
        path = Path(base_dir) / "runs.db"
        if not _is_known(path):
            SqliteRunStorage.from_local(base_dir)
            _know(path)
        return cls(f"sqlite:///{path}", inst_data)

    @contextmanager
    def connect(self) -> Iterator[sqlalchemy.Connection]:
        with _connected(_path_of(self._conn_string)) as connection:
            yield connection


class _Schedules(SqliteScheduleStorage):
    @classmethod
    def from_local(cls, base_dir: str, inst_data: ConfigurableClassData | None = None) -> _Schedules:
        path = Path(base_dir) / "schedules.db"
        if not _is_known(path):
            SqliteScheduleStorage.from_local(base_dir)
            _know(path)
        return cls(f"sqlite:///{path}", inst_data)

    @contextmanager
    def connect(self) -> Iterator[sqlalchemy.Connection]:
        with _connected(_path_of(self._conn_string)) as connection:
            yield connection


class _Events(SqliteEventLogStorage):
    @contextmanager
    def _connect(self, shard: str) -> Iterator[sqlalchemy.Connection]:
        path = self.path_for_shard(shard)
        # One at a time, as Dagster has it: threads that wait for each other in SQLite wait longer.
        with self._db_lock:
            if shard not in self._initialized_dbs:
                if shard == INDEX_SHARD_NAME:
                    self._look_at_index(Path(path))
                elif not _is_empty_run_put(path):
                    self._initdb(_engine_of(path))
                self._initialized_dbs.add(shard)
            with _connected(path) as connection:
                yield connection

    def _look_at_index(self, path: Path) -> None:
        if not _is_known(path):
            self._initdb(_engine_of(str(path)))
            _know(path)


def _is_empty_run_put(path: str) -> bool:
    """Make the file of a run, unless it is there; return whether it is one of Dagster's version now."""
    if not Path(path).exists():
        new = Path(f"{path}.{os.getpid()}-{threading.get_ident()}.new")
        # Where it cannot be put, Dagster's own way says why.
        with suppress(OSError):
            new.write_bytes(_empty_run()[0])
            try:
                # Not over what another process has put there a moment ago, and may have written to.
                os.link(new, path)
            finally:
                new.unlink()
    try:
        with closing(sqlite3.connect(path, timeout=_PATIENCE)) as connection:
            return connection.execute(_VERSION).fetchall() == [(_empty_run()[1],)]
    except sqlite3.DatabaseError:
        return False  # Dagster says what is wrong with it, or makes it whole


@cache
def _empty_run() -> tuple[bytes, str]:
    """Return the file of a run without events, and the version of its tables: as Dagster makes one here and now."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        SqliteEventLogStorage._initdb(_NO_STORE, _engine_of(str(path)))
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            [[version]] = connection.execute(_VERSION).fetchall()
        return path.read_bytes(), version


# Making tables asks nothing of the store whose they are.
_NO_STORE: Any = None


def _is_known(path: Path) -> bool:
    with suppress(FileNotFoundError):
        return (str(path), path.stat().st_ino) in _seen
    return False


def _know(path: Path) -> None:
    _seen.add((str(path), path.stat().st_ino))


def _path_of(conn_string: str) -> str:
    return conn_string.removeprefix("sqlite:///")


@contextmanager
def _connected(path: str) -> Iterator[sqlalchemy.Connection]:
    _wanted.path = path
    with _engine().connect() as connection, connection.begin():
        yield connection


@cache
def _engine() -> sqlalchemy.Engine:
    """Return the engine of all files; which one, a thread says before it connects. It keeps statements, and no file."""
    return sqlalchemy.create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(_wanted.path, timeout=_PATIENCE),
        poolclass=sqlalchemy.NullPool,
    )


def _engine_of(path: str) -> sqlalchemy.Engine:
    return sqlalchemy.create_engine(
        f"sqlite:///{path}", poolclass=sqlalchemy.NullPool, connect_args={"timeout": _PATIENCE}
    )
