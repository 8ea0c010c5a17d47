"""The log of `refresh reset` in the operational store: which breaker a person closed, when, and who that was.

What else there is to know of a breaker is derived from the event log.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path

from refresh_pipelines.ops import instant_text, ops_file, told_store

_TABLES = """
CREATE TABLE IF NOT EXISTS breakers (
    source TEXT NOT NULL, reset_at TEXT NOT NULL, "by" TEXT NOT NULL, PRIMARY KEY (source, reset_at));
"""


def resets(data_dir: Path) -> dict[str, datetime]:
    """Return when each source's breaker was closed by hand last. Creates nothing where none ever was.

    Raises:
        InternalError: the operational store cannot be used; so do all functions here.
    """
    if not ops_file(data_dir).exists():
        return {}
    with _store(data_dir) as store:
        rows = store.execute("SELECT source, max(reset_at) FROM breakers GROUP BY source").fetchall()
    return {source: datetime.fromisoformat(at) for source, at in rows}


def log_resets(data_dir: Path, sources: Iterable[str], at: datetime, by: str) -> None:
    """Write down that a person closed the breakers of some sources."""
    with _store(data_dir) as store:
        store.executemany(
            'INSERT OR IGNORE INTO breakers (source, reset_at, "by") VALUES (?, ?, ?)',
            [(source, instant_text(at), by) for source in sources],
        )


def _store(data_dir: Path) -> AbstractContextManager[sqlite3.Connection]:
    return told_store(data_dir, _TABLES, "the log of resets")
