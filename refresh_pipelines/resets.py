"""The log of `refresh reset` in the operational store: which breaker a person closed, when, and who that was.

What else there is to know of a breaker is derived from the event log.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from refresh_pipelines.errors import InternalError
from refresh_pipelines.ops import instant_text, ops_file, ops_store

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


@contextmanager
def _store(data_dir: Path) -> Iterator[sqlite3.Connection]:
    path = ops_file(data_dir)
    try:
        with ops_store(path, _TABLES) as store:
            yield store
    except (OSError, sqlite3.Error) as error:
        raise InternalError(
            "the log of resets cannot be used",
            expected=f"a database {path} that can be written",
            came=str(error),
            todo="Make room or mend its rights; if it is damaged, move it away and a new one is made.",
        ) from error
