"""The operational store: `ops.sqlite` in the data folder, for what many processes write and nobody's table depends on.

It may be deleted at the price of what it remembers. Each module keeps its own tables in it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path

_PATIENCE = 30.0


def ops_file(data_dir: Path) -> Path:
    """Return the store's path."""
    return data_dir / "ops.sqlite"


@contextmanager
def ops_store(path: Path, tables: str) -> Iterator[sqlite3.Connection]:
    """Open the store, make `tables` (CREATE TABLE IF NOT EXISTS …) and commit at the end, or roll back.

    Raises:
        sqlite3.Error: the file is no database, or stayed locked for half a minute.
        OSError: its folder cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=_PATIENCE)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(tables)
        yield connection


def instant_text(at: datetime) -> str:
    """Write an instant so that texts sort as instants do."""
    return at.astimezone(timezone.utc).isoformat(timespec="microseconds")
