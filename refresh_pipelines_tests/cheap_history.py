"""Imported for its effect: what Dagster does anew for each statement and each file, a test process does once.

Dagster makes an engine for each statement it sends to SQLite. An engine that is new opens the file, asks what it can
do and compiles every statement; here an engine and one connection are kept for each file, and all share what was
compiled. Alembic reads Dagster's migration scripts for each file that is opened; here it reads them once. And nobody
waits for the disk: the files of a test need not outlive a power cut.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

import sqlalchemy
from alembic.config import Config
from alembic.script import ScriptDirectory
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage

KEPT = 16
_from_config = ScriptDirectory.from_config
_compiled: dict[Any, Any] = {}
_engines: dict[tuple[str, float | None], sqlalchemy.Engine] = {}
_dialects: list[sqlalchemy.Dialect] = []


def let_go() -> None:
    """Close all files, as they are closed for anybody else between two statements."""
    for engine in _engines.values():
        engine.pool.dispose()
    _engines.clear()


@lru_cache
def _scripts_at(location: str) -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", location)
    return _from_config(config)


def _read_once(config: Config) -> ScriptDirectory:
    return _scripts_at(config.get_main_option("script_location") or "")


def _kept_engine(url: str, *, poolclass: type[sqlalchemy.Pool], connect_args: dict[str, Any] | None = None):
    """Return the engine for a file; the pool asked for, which keeps nothing, is not used."""
    wait = (connect_args or {}).get("timeout")
    engine = _engines.pop((url, wait), None) or _new_engine(url, connect_args or {})
    _engines[url, wait] = engine  # the last one used is the last one to go
    if len(_engines) > KEPT:
        _engines.pop(next(iter(_engines))).pool.dispose()
    return engine


def _new_engine(url: str, connect_args: dict[str, Any]) -> sqlalchemy.Engine:
    engine = sqlalchemy.create_engine(
        url, poolclass=sqlalchemy.QueuePool, pool_size=1, max_overflow=-1, connect_args=connect_args
    )
    engine.dispose = lambda close=True: None  # Dagster's after each statement
    sqlalchemy.event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous=OFF"))
    if not _dialects:
        with engine.connect():  # asks for what the dialect has to know
            _dialects.append(engine.dialect)
    engine.dialect = _dialects[0]  # statements are remembered by dialect
    engine.update_execution_options(compiled_cache=_compiled)
    return engine


os.register_at_fork(before=let_go)  # SQLite forbids a child to have them
ScriptDirectory.from_config = staticmethod(_read_once)  # type: ignore[method-assign]
for module in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
    module.create_engine = _kept_engine
