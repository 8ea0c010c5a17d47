"""The file ledger in schema `refresh` of the warehouse: what became of each version of each dropped file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter

from refresh_pipelines.drop.ledger import FileEntry
from refresh_pipelines.sql import Connection, columns
from refresh_pipelines.warehouse.dialect import dialect_of
from refresh_pipelines.warehouse.state import exists

_NAMES = tuple(field.name for field in fields(FileEntry))
_VALUES = attrgetter(*_NAMES)  # astuple copies each value, which takes as long as all the rest
_AT_ONCE = 100
_TABLE = """
CREATE TABLE IF NOT EXISTS refresh.file_ledger (
    source VARCHAR NOT NULL, key VARCHAR NOT NULL, version VARCHAR NOT NULL, size BIGINT NOT NULL,
    sha256 VARCHAR NOT NULL, first_seen_at TIMESTAMPTZ NOT NULL, stable_at TIMESTAMPTZ,
    processed_at TIMESTAMPTZ NOT NULL, status VARCHAR NOT NULL, rows_in BIGINT NOT NULL, rows_loaded BIGINT NOT NULL,
    rows_rejected BIGINT NOT NULL, reason VARCHAR, "partition" VARCHAR NOT NULL, run_id VARCHAR NOT NULL,
    spec_hash VARCHAR NOT NULL, PRIMARY KEY (source, key, version));
"""
_HOLDING = ("loaded", "unchanged", "duplicate")


def read_files(
    connection: Connection, source: str, table: str, keys: Sequence[str], sha256: Sequence[str]
) -> list[FileEntry]:
    """Return the entries of files of these keys, and those with these contents; see `Warehouse.files`."""
    if not exists(connection, "refresh", "file_ledger"):
        return []
    found = connection.execute(
        f"SELECT {columns(_NAMES)} FROM refresh.file_ledger WHERE source = $source"  # noqa: S608 - own column names
        " AND (key IN (SELECT unnest($keys)) OR sha256 IN (SELECT unnest($sha256))) ORDER BY processed_at",
        {"source": source, "keys": list(keys), "sha256": list(sha256)},
    )
    entries = [FileEntry(*row) for row in found.fetchall()]
    # Somebody dropped the table to load anew; what was refused would be refused again.
    return entries if exists(connection, "raw", table) else [e for e in entries if e.status == "refused"]


def all_files(connection: Connection) -> list[FileEntry]:
    """Return every entry, in the order of its key."""
    if not exists(connection, "refresh", "file_ledger"):
        return []
    entries = connection.execute(f"SELECT {columns(_NAMES)} FROM refresh.file_ledger").fetchall()  # noqa: S608
    return sorted((FileEntry(*row) for row in entries), key=lambda entry: (entry.source, entry.key, entry.version))


def ensure_ledger(connection: Connection) -> None:
    """Create the ledger unless it is there."""
    if not exists(connection, "refresh", "file_ledger"):
        connection.execute(_TABLE)


def write_files(connection: Connection, entries: Sequence[FileEntry]) -> None:
    """Insert or replace entries; earlier versions of a file that was loaded become `replaced`."""
    if not entries:
        return
    ensure_ledger(connection)
    loaded = [entry.key for entry in entries if entry.status == "loaded"]
    if loaded:
        connection.execute(
            "UPDATE refresh.file_ledger SET status = 'replaced' WHERE source = ? AND key IN (SELECT unnest(?))"
            " AND status IN (SELECT unnest(?))",
            [entries[0].source, loaded, list(_HOLDING)],
        )
    insert_files(connection, entries)


def insert_files(connection: Connection, entries: Sequence[FileEntry]) -> None:
    """Insert or replace entries, whatever else is known of the files."""
    if not entries:
        return
    ensure_ledger(connection)
    dialect = dialect_of(connection)
    for first in range(0, len(entries), _AT_ONCE):
        some = entries[first : first + _AT_ONCE]
        statement = dialect.replace("refresh.file_ledger", _NAMES, ("source", "key", "version"), len(some))
        connection.execute(statement, [v for entry in some for v in _VALUES(entry)])


def rename_files(connection: Connection, old: str, new: str) -> None:
    """Give the entries of a source's old name to the source."""
    if exists(connection, "refresh", "file_ledger"):
        connection.execute("UPDATE refresh.file_ledger SET source = ? WHERE source = ?", [new, old])


def remove_files(connection: Connection, source: str) -> None:
    """Delete a source's entries."""
    if exists(connection, "refresh", "file_ledger"):
        connection.execute("DELETE FROM refresh.file_ledger WHERE source = ?", [source])
