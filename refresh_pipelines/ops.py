"""The operational store: `ops.sqlite` in the data folder, for what many processes write and nobody's table depends on.

It may be deleted at the price of what it remembers. Each module keeps its own tables in it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path

from refresh_pipelines.errors import InternalError

_PATIENCE = 30.0
_PAUSE = 0.01
# What is known of a source and nobody was told of; a source of the same name begins anew without it.
_ABOUT_SOURCES = (
    "pauses", "breakers", "schedule_changes", "drop_sightings", "validator_trust", "validator_checks",
)  # fmt: skip


def ops_file(data_dir: Path) -> Path:
    """Return the store's path."""
    return data_dir / "ops.sqlite"


@contextmanager
def ops_store(path: Path, tables: str, patience: float = _PATIENCE) -> Iterator[sqlite3.Connection]:
    """Open the store, make `tables` (CREATE TABLE IF NOT EXISTS …) and commit at the end, or roll back.

    Raises:
        sqlite3.Error: the file is no database, or stayed locked for `patience` seconds, by default half a minute.
        OSError: its folder cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=patience)) as connection, connection:
        _write_ahead(connection, time.monotonic() + patience)
        connection.executescript(tables)
        yield connection


def _write_ahead(connection: sqlite3.Connection, until: float) -> None:
    # Of processes that turn a new file to WAL at once, SQLite answers some "locked" without waiting (no busy handler
    # runs where two could wait for each other). The file stays WAL, so this is a matter of its first moments.
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(_PAUSE)
        else:
            return


@contextmanager
def told_store(data_dir: Path, tables: str, what: str) -> Iterator[sqlite3.Connection]:
    """Open the store as `ops_store` does, for commands: its trouble is an InternalError that names `what` it holds."""
    path = ops_file(data_dir)
    with telling(path, what), ops_store(path, tables) as store:
        yield store


@contextmanager
def telling(path: Path, what: str) -> Iterator[None]:
    """Turn trouble with the store into an InternalError that says what to do.

    Args:
        what: what is kept there, as the subject of a sentence.
    """
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise InternalError(
            f"{what} cannot be used",
            expected=f"a database {path} that can be written",
            came=str(error),
            todo="Make room or mend its rights; if it is damaged, move it away and a new one is made.",
        ) from error


def count_about(data_dir: Path, source: str) -> int:
    """Return how many rows there are about a source: pauses, resets, changes of its schedule, sightings of files."""
    path = ops_file(data_dir)
    if not path.exists():
        return 0
    with told_store(data_dir, "", "what is known of sources") as store:
        counts = [store.execute(f"SELECT count(*) FROM {table} WHERE source = ?", [source]) for table in _there(store)]  # noqa: S608
        return sum(count.fetchone()[0] for count in counts)


def forget_about(data_dir: Path, source: str) -> None:
    """Remove the rows that `count_about` counts."""
    with told_store(data_dir, "", "what is known of sources") as store:
        for table in _there(store):
            store.execute(f"DELETE FROM {table} WHERE source = ?", [source])  # noqa: S608


def _there(store: sqlite3.Connection) -> list[str]:
    tables = {name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return [table for table in _ABOUT_SOURCES if table in tables]


def instant_text(at: datetime) -> str:
    """Write an instant so that texts sort as instants do."""
    return at.astimezone(timezone.utc).isoformat(timespec="microseconds")
