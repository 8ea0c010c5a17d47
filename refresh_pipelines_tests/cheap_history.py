"""Imported for its effect: what Dagster does anew for each statement and each file, a test process does once.

Dagster makes an engine for each statement it sends to SQLite. An engine that is new asks the file what it can do and
compiles every statement; here an engine is kept for its file, and all share what was compiled. Alembic reads Dagster's
migration scripts for each file that is opened; here it reads them once. And nobody waits for the disk: the files of a
test need not outlive a power cut. Together that is half of the time of a run, thousands of which the tests make.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import sqlalchemy
from alembic.config import Config
from alembic.script import ScriptDirectory
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage

_from_config = ScriptDirectory.from_config
_compiled: dict[Any, Any] = {}
_dialects: list[sqlalchemy.Dialect] = []


@lru_cache
def _scripts_at(location: str) -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", location)
    return _from_config(config)


def _read_once(config: Config) -> ScriptDirectory:
    return _scripts_at(config.get_main_option("script_location") or "")


@lru_cache(maxsize=64)
def _engine(url: str, timeout: float | None) -> sqlalchemy.Engine:
    wait = {} if timeout is None else {"timeout": timeout}
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, connect_args=wait)
    sqlalchemy.event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous=OFF"))
    if not _dialects:
        with engine.connect():  # asks for what the dialect has to know
            _dialects.append(engine.dialect)
    engine.dialect = _dialects[0]  # statements are remembered by dialect
    engine.update_execution_options(compiled_cache=_compiled)
    return engine


def _kept_engine(url: str, *, poolclass: type[sqlalchemy.Pool], connect_args: dict[str, Any] | None = None):
    assert poolclass is sqlalchemy.NullPool, "an engine that keeps connections must not be shared"
    return _engine(url, (connect_args or {}).get("timeout"))


ScriptDirectory.from_config = staticmethod(_read_once)  # type: ignore[method-assign]
for module in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
    module.create_engine = _kept_engine
