"""What was learned of validators, in the operational store: by source, and when each partition was examined.

It may be deleted: then everything is believed until the next examination finds out.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from refresh_pipelines.ops import instant_text, ops_file, ops_store
from refresh_pipelines.trust import Memory, Standing
from refresh_pipelines.validators import KINDS

TABLES = """
CREATE TABLE IF NOT EXISTS validator_trust (
    source TEXT NOT NULL, kind TEXT NOT NULL, lied_at TEXT, why TEXT NOT NULL, agreed INTEGER NOT NULL,
    restless INTEGER NOT NULL, PRIMARY KEY (source, kind));
CREATE TABLE IF NOT EXISTS validator_checks (
    source TEXT NOT NULL, "partition" TEXT NOT NULL, since INTEGER NOT NULL, examined_at TEXT,
    PRIMARY KEY (source, "partition"));
"""
_PATIENCE = 5.0


def recall(data_dir: Path, source: str, partition: str) -> Memory:
    """Return what is known of a source's validators and of one of its partitions ("" without any).

    Raises:
        sqlite3.Error, OSError: the store cannot be read.
    """
    if not ops_file(data_dir).exists():
        return Memory()
    with ops_store(ops_file(data_dir), TABLES, _PATIENCE) as store:
        return _read(store, source, partition)


def learn(data_dir: Path, source: str, partition: str, lesson: Callable[[Memory], Memory]) -> tuple[Memory, Memory]:
    """Apply a lesson to what is known by now, and return what was known before and after. Raises as `recall`."""
    with ops_store(ops_file(data_dir), TABLES, _PATIENCE) as store:
        store.execute("BEGIN IMMEDIATE")  # a lesson of another partition, learned meanwhile, stays
        before = _read(store, source, partition)
        after = lesson(before)
        if after != before:
            _write(store, source, partition, after)
    return before, after


def _read(store: sqlite3.Connection, source: str, partition: str) -> Memory:
    query = "SELECT kind, lied_at, why, agreed, restless FROM validator_trust WHERE source = ?"
    rows = {kind: rest for kind, *rest in store.execute(query, [source])}
    standings = {kind: Standing(_instant(rows[kind][0]), *rows[kind][1:]) for kind in KINDS if kind in rows}
    query = 'SELECT since, examined_at FROM validator_checks WHERE source = ? AND "partition" = ?'
    since, examined_at = store.execute(query, [source, partition]).fetchone() or (0, None)
    return Memory(standings, since, _instant(examined_at))


def _write(store: sqlite3.Connection, source: str, partition: str, memory: Memory) -> None:
    store.executemany(
        "INSERT OR REPLACE INTO validator_trust (source, kind, lied_at, why, agreed, restless)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [
            (source, kind, one.lied_at and instant_text(one.lied_at), one.why, one.agreed, one.restless)
            for kind, one in memory.standings.items()
        ],
    )
    at = memory.examined_at and instant_text(memory.examined_at)
    store.execute(
        'INSERT OR REPLACE INTO validator_checks (source, "partition", since, examined_at) VALUES (?, ?, ?, ?)',
        [source, partition, memory.since, at],
    )


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
