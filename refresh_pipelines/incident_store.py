"""Incidents in the operational store: read as a board, changed by it, and kept with the notices it decides on."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from refresh_pipelines.incident import Incident, Rule
from refresh_pipelines.incidents import Board
from refresh_pipelines.ops import instant_text

# Runs that were reported are known as long as Dagster keeps ticks; an older one is not looked at again.
KEPT = timedelta(days=400)
_INSTANTS = ("began_at", "last_at", "opened_at", "hold_until", "told_at", "remind_at", "recovered_at")
_GROUPS = "SELECT id FROM incidents WHERE recovered_at IS NULL AND source = ''"
_OPEN = "SELECT state FROM incidents WHERE recovered_at IS NULL"


def read_board(store: sqlite3.Connection) -> Board:
    """Return the open incidents, and all members of those that are told together."""
    query = f"{_OPEN} UNION SELECT state FROM incidents WHERE group_id IN ({_GROUPS})"  # noqa: S608 - our words
    return Board(_incident(state) for (state,) in store.execute(query))


def open_incidents(store: sqlite3.Connection, source: str | None = None) -> list[Incident]:
    """Return the open incidents of all sources or of one, oldest first; those told together one by one as well."""
    query = f"{_OPEN} AND source = coalesce(?, source) ORDER BY began_at, id"
    return [_incident(state) for (state,) in store.execute(query, [source])]


def keep(store: sqlite3.Connection, board: Board) -> None:
    """Write down what a board has changed."""
    # What ends first, or a new incident of the same kind would meet it.
    for id_, incident in sorted(board.changed.items(), key=lambda item: item[1] is not None and not _ended(item[1])):
        if incident is None:
            store.execute("DELETE FROM incidents WHERE id = ?", [id_])
            continue
        ended = instant_text(incident.recovered_at) if incident.recovered_at else None
        row = (incident.source, incident.kind, incident.group, instant_text(incident.began_at), ended)
        store.execute(
            "INSERT INTO incidents (id, source, kind, group_id, began_at, recovered_at, state)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET group_id = excluded.group_id,"
            " began_at = excluded.began_at, recovered_at = excluded.recovered_at, state = excluded.state",
            (id_, *row, _text(incident)),
        )


def is_new(store: sqlite3.Connection, run_id: str, source: str, now: datetime) -> bool:
    """Note that a source's failure in a run is reported; return whether it was not before."""
    done = store.execute("INSERT OR IGNORE INTO reported VALUES (?, ?, ?)", (run_id, source, instant_text(now)))
    return done.rowcount == 1


def forget(store: sqlite3.Connection, source: str, now: datetime) -> None:
    """End a source's incidents without a word; among those told together it counts as recovered."""
    board = read_board(store)
    for incident in open_incidents(store, source):
        if incident.group is None:
            store.execute("DELETE FROM incidents WHERE id = ?", [incident.id])
        else:
            board.forget(incident, now)
    keep(store, board)


def prune(store: sqlite3.Connection, now: datetime) -> None:
    """Remove what ended long ago."""
    long_ago = instant_text(now - KEPT)
    store.execute("DELETE FROM reported WHERE at < ?", [long_ago])
    query = f"DELETE FROM incidents WHERE recovered_at < ? AND coalesce(group_id, id) NOT IN ({_GROUPS})"  # noqa: S608
    store.execute(query, [long_ago])


def _ended(incident: Incident) -> bool:
    return incident.recovered_at is not None


def _text(incident: Incident) -> str:
    values = asdict(incident)
    values["rule"]["remind"] = incident.rule.remind.total_seconds()
    return json.dumps(values, default=datetime.isoformat)


def _incident(state: str) -> Incident:
    values: dict[str, Any] = json.loads(state)
    rule = values["rule"]
    values |= {name: _instant(values[name]) for name in _INSTANTS}
    values["pending"] = {key: datetime.fromisoformat(at) for key, at in values["pending"].items()}
    values["rule"] = Rule(**{**rule, "remind": timedelta(seconds=rule["remind"])})
    return Incident(**values)


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
