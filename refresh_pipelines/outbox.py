"""The outbox: notices that wait for their receiver, in order for each route, each claimed by one sender at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from refresh_pipelines.ops import instant_text

# After so long another sender takes a notice up whose sender died.
CLAIM = timedelta(minutes=1)
KEPT = timedelta(days=90)
_ELIGIBLE = """
    SELECT event_id, body FROM outbox AS mine
    WHERE route = :route AND delivered_at IS NULL AND not_before <= :now
      AND NOT EXISTS (SELECT 1 FROM outbox AS before WHERE before.incident_id = mine.incident_id
                      AND before.number < mine.number AND before.delivered_at IS NULL)
    ORDER BY number LIMIT 1
"""


@dataclass(frozen=True)
class Notice:
    """One row.

    Attributes:
        event: opened, reminder or recovered.
        source: "" for several sources that are told together.
        not_before: it is not sent before, because the receiver refused it or somebody is sending it.
    """

    event_id: str
    incident_id: str
    event: str
    source: str
    route: str
    body: str
    created_at: str
    not_before: str
    delivered_at: str | None
    attempts: int
    last_error: str | None


_COLUMNS = ", ".join(Notice.__dataclass_fields__)


def put(store: sqlite3.Connection, notice: Mapping[str, object], nth: int) -> bool:
    """Add the nth notice of its kind for an incident; return whether it is new. Its body has no `sent_at` yet."""
    done = store.execute(
        "INSERT OR IGNORE INTO outbox (event_id, incident_id, event, nth, source, route, body, created_at, not_before)"
        " VALUES (:event_id, :incident_id, :event, :nth, :source, :route, :body, :created_at, :created_at)",
        {**notice, "nth": nth},
    )
    return done.rowcount == 1


def claim(store: sqlite3.Connection, route: str, now: datetime) -> tuple[str, str] | None:
    """Take the oldest notice of a route that may be sent now, as (event_id, body).

    None while another sender is at work on the route: two of them would disturb the order. A notice waits for the
    earlier ones of its incident, and for no others that the receiver refused.
    """
    values = {"route": route, "now": instant_text(now)}
    busy = "SELECT 1 FROM outbox WHERE route = :route AND delivered_at IS NULL AND claimed_until > :now"
    if store.execute(busy, values).fetchone():
        return None
    row = store.execute(_ELIGIBLE, values).fetchone()
    if row is None:
        return None
    store.execute(
        "UPDATE outbox SET claimed_until = ?, attempts = attempts + 1 WHERE event_id = ?",
        (instant_text(now + CLAIM), row[0]),
    )
    return str(row[0]), str(row[1])


def settle(store: sqlite3.Connection, event_id: str, now: datetime, problem: str | None, pause: timedelta) -> None:
    """Write down that a notice was delivered, or why it was not and how long it waits."""
    if problem:
        statement = "UPDATE outbox SET claimed_until = NULL, not_before = ?, last_error = ? WHERE event_id = ?"
        store.execute(statement, (instant_text(now + pause), problem, event_id))
    else:
        statement = "UPDATE outbox SET claimed_until = NULL, delivered_at = ?, last_error = NULL WHERE event_id = ?"
        store.execute(statement, (instant_text(now), event_id))


def waiting_routes(store: sqlite3.Connection) -> list[str]:
    """Return the routes with something to deliver, the one that waits longest first."""
    query = "SELECT route FROM outbox WHERE delivered_at IS NULL GROUP BY route ORDER BY min(number)"
    return [str(route) for (route,) in store.execute(query)]


def count_waiting(store: sqlite3.Connection, source: str | None) -> int:
    """Return how many notices are not delivered yet, of all sources or of one."""
    query = "SELECT count(*) FROM outbox WHERE delivered_at IS NULL AND source = coalesce(?, source)"
    return int(store.execute(query, [source]).fetchone()[0])


def newest(store: sqlite3.Connection, limit: int) -> list[Notice]:
    """Return what waits, in order, and then the newest notices that were delivered."""
    waiting = f"SELECT {_COLUMNS} FROM outbox WHERE delivered_at IS NULL ORDER BY number"  # noqa: S608
    delivered = f"SELECT {_COLUMNS} FROM outbox WHERE delivered_at IS NOT NULL ORDER BY number DESC LIMIT ?"  # noqa: S608
    return [Notice(*row) for row in (*store.execute(waiting), *store.execute(delivered, [limit]))]


def forget(store: sqlite3.Connection, source: str) -> None:
    """Remove the notices of a source that are not delivered yet."""
    store.execute("DELETE FROM outbox WHERE delivered_at IS NULL AND source = ?", [source])


def prune(store: sqlite3.Connection, now: datetime) -> None:
    """Remove what was delivered long ago."""
    store.execute("DELETE FROM outbox WHERE delivered_at < ?", [instant_text(now - KEPT)])
