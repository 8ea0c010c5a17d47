"""The tables of alerts in the operational store: incidents, what was reported, the outbox; used in one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refresh_pipelines.ops import ops_store

_TABLES = (
    """CREATE TABLE IF NOT EXISTS incidents (
        id TEXT PRIMARY KEY, source TEXT NOT NULL, kind TEXT NOT NULL, group_id TEXT, began_at TEXT NOT NULL,
        recovered_at TEXT, state TEXT NOT NULL)""",
    # Two processes that begin the same incident would tell it twice.
    """CREATE UNIQUE INDEX IF NOT EXISTS incidents_open ON incidents (source, kind)
        WHERE recovered_at IS NULL AND source <> ''""",
    """CREATE TABLE IF NOT EXISTS reported (
        run_id TEXT NOT NULL, source TEXT NOT NULL, at TEXT NOT NULL, PRIMARY KEY (run_id, source))""",
    """CREATE TABLE IF NOT EXISTS outbox (
        number INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE, incident_id TEXT NOT NULL,
        event TEXT NOT NULL, nth INTEGER NOT NULL, source TEXT NOT NULL, route TEXT NOT NULL, body TEXT NOT NULL,
        created_at TEXT NOT NULL, not_before TEXT NOT NULL, claimed_until TEXT, delivered_at TEXT,
        attempts INTEGER NOT NULL DEFAULT 0, last_error TEXT, UNIQUE (incident_id, event, nth))""",
    "CREATE INDEX IF NOT EXISTS outbox_waiting ON outbox (route, number) WHERE delivered_at IS NULL",
)
_FORMER = "outbox_before_incidents"


@contextmanager
def alert_store(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the tables for one transaction that nobody else writes during.

    Raises:
        sqlite3.Error: the file is no database, or stayed locked for half a minute.
        OSError: its folder cannot be made.
    """
    with ops_store(path, "") as connection:
        connection.execute("BEGIN IMMEDIATE")
        columns = {row[1] for row in connection.execute("PRAGMA table_info(outbox)")}
        former = bool(columns) and "route" not in columns
        if former:
            connection.execute(f"ALTER TABLE outbox RENAME TO {_FORMER}")
        for statement in _TABLES:
            connection.execute(statement)
        if former:
            _take_over(connection)
        yield connection


def _take_over(connection: sqlite3.Connection) -> None:
    """Move the notices of the table that knew no incidents; what waits there is sent under its own id."""
    rows = connection.execute(
        "SELECT event_id, run_id, source, body, created_at, not_before, delivered_at, attempts, last_error"  # noqa: S608
        f" FROM {_FORMER} ORDER BY created_at, rowid"
    ).fetchall()
    for event_id, run_id, source, body, created_at, *rest in rows:
        incident = json.loads(body)["incident_id"]
        connection.execute("INSERT OR IGNORE INTO reported VALUES (?, ?, ?)", (run_id, source, created_at))
        connection.execute(
            "INSERT INTO outbox (event_id, incident_id, event, nth, source, route, body, created_at, not_before,"
            " delivered_at, attempts, last_error) VALUES (?, ?, 'opened', 1, ?, 'default', ?, ?, ?, ?, ?, ?)",
            (event_id, incident, source, body, created_at, *rest),
        )
    connection.execute(f"DROP TABLE {_FORMER}")
