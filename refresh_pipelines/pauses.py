"""The log of pauses in the operational store: which source, from when to when, why, and who asked for it.

A pause itself is the state of the source's schedule in Dagster (see `orchestration.pause`). That state knows neither
its beginning nor its past, so what is paused and resumed is written down here too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from refresh_pipelines.ops import instant_text, ops_file, told_store

# Who paused it, when it was not `refresh pause`: then the times are bounds, not instants.
IN_DAGSTER = "dagster"
_TABLES = """
CREATE TABLE IF NOT EXISTS pauses (
    source TEXT NOT NULL, paused_at TEXT NOT NULL, resumed_at TEXT, reason TEXT NOT NULL, "by" TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS pauses_of_source ON pauses (source, paused_at);
"""
_COLUMNS = 'source, paused_at, resumed_at, reason, "by"'


@dataclass(frozen=True)
class Pause:
    """One pause of one source.

    Attributes:
        resumed_at: None while it lasts.
        by: the user who called `refresh pause`, or `IN_DAGSTER`.
    """

    source: str
    paused_at: datetime
    resumed_at: datetime | None
    reason: str
    by: str


def pauses(data_dir: Path, source: str | None = None) -> list[Pause]:
    """Return the pauses of a source, or of all, oldest first. Creates nothing where nothing was ever paused.

    Raises:
        InternalError: the operational store cannot be used; so do all functions here.
    """
    if not ops_file(data_dir).exists():
        return []
    with _store(data_dir) as store:
        rows = store.execute(
            f"SELECT {_COLUMNS} FROM pauses WHERE ? IS NULL OR source = ? ORDER BY paused_at",  # noqa: S608 - our names
            (source, source),
        ).fetchall()
    return [
        Pause(name, _instant(begun), _instant(ended) if ended else None, why, by)
        for name, begun, ended, why, by in rows
    ]


def open_pauses(data_dir: Path) -> dict[str, Pause]:
    """Return the pauses that last, by source, as far as they have been seen."""
    return {pause.source: pause for pause in pauses(data_dir) if pause.resumed_at is None}


def begin_pauses(data_dir: Path, begun: Iterable[Pause]) -> None:
    """Write down pauses that begin; one of a source whose pause lasts already changes nothing."""
    with _store(data_dir) as store:
        store.executemany(
            f"INSERT INTO pauses ({_COLUMNS}) SELECT ?1, ?2, NULL, ?3, ?4 "  # noqa: S608
            "WHERE NOT EXISTS (SELECT 1 FROM pauses WHERE source = ?1 AND resumed_at IS NULL)",
            [(pause.source, instant_text(pause.paused_at), pause.reason, pause.by) for pause in begun],
        )


def end_pauses(data_dir: Path, ended: Iterable[tuple[str, datetime]]) -> None:
    """Write down when pauses ended; of a source that has none nothing."""
    with _store(data_dir) as store:
        store.executemany(
            "UPDATE pauses SET resumed_at = max(?, paused_at) WHERE source = ? AND resumed_at IS NULL",
            [(instant_text(at), source) for source, at in ended],
        )


def _store(data_dir: Path) -> AbstractContextManager[sqlite3.Connection]:
    return told_store(data_dir, _TABLES, "the log of pauses")


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
