"""Copies of databases in files, each as it was at one moment while others write to it; and what is in them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb

from refresh_pipelines.sql import quote


def copy_sqlite(source: Path, target: Path) -> dict[str, int]:
    """Copy a SQLite database and return how many rows each of its tables has. Nobody waits for it.

    Raises:
        sqlite3.Error: it cannot be read, or the copy cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    address = f"{source.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=60)) as original, closing(sqlite3.connect(target)) as copy:
        copy.execute("PRAGMA synchronous = OFF")  # it is read at once, and reaches the disk with the backup
        original.backup(copy)
        return _counts(copy)


def rows_of_sqlite(path: Path) -> dict[str, int]:
    """Return how many rows each table has. Raises sqlite3.Error."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as store:
        return _counts(store)


def rows_of_duckdb(path: Path) -> dict[str, int]:
    """Return how many rows each table has, as `schema.table`. Raises duckdb.Error."""
    with duckdb.connect(str(path), read_only=True) as store:
        names = store.execute(
            "SELECT table_schema, table_name FROM information_schema.tables"
            " WHERE table_type = 'BASE TABLE' ORDER BY 1, 2"
        ).fetchall()
        return {f"{schema}.{table}": _count(store, schema, table) for schema, table in names}


def _count(store: duckdb.DuckDBPyConnection, schema: str, table: str) -> int:
    found = store.execute(f"SELECT count(*) FROM {quote(schema)}.{quote(table)}").fetchone()  # noqa: S608 - quoted
    return int(found[0]) if found else 0


def _counts(store: sqlite3.Connection) -> dict[str, int]:
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
    names = [name for (name,) in store.execute(query)]
    return {name: store.execute(f"SELECT count(*) FROM {quote(name)}").fetchone()[0] for name in names}  # noqa: S608 - quoted
