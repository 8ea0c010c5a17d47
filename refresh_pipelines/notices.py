"""Tell a person that a refresh failed: written once to an outbox, then delivered to the webhook.

The outbox (`ops.sqlite` in the data folder) is what makes a notice exactly one: the run that
failed, the sensor that finds crashed runs and any number of processes may all report the same
failure, and the first one's row wins. What could not be delivered stays and is tried again.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import requests

from refresh_pipelines.redact import redact
from refresh_pipelines.refresh import utc_now
from refresh_pipelines.settings import Settings

TIMEOUT = 5.0
CLAIM = timedelta(minutes=1)
_TABLE = """
CREATE TABLE IF NOT EXISTS outbox (
    event_id TEXT PRIMARY KEY, run_id TEXT NOT NULL, source TEXT NOT NULL, body TEXT NOT NULL,
    created_at TEXT NOT NULL, claimed_at TEXT, delivered_at TEXT, attempts INTEGER NOT NULL DEFAULT 0,
    last_error TEXT, UNIQUE (run_id, source));
"""


@dataclass(frozen=True)
class Failure:
    """What there is to tell: one source in one failed run.

    Attributes:
        partitions: the bad partition keys, empty without partitions.
    """

    source: str
    run_id: str
    partitions: tuple[str, ...]
    error_class: str
    message: str


class Notices:
    """The outbox and its delivery."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime] = utc_now) -> None:
        self.settings, self.clock = settings, clock
        self.path = settings.data_dir / "ops.sqlite"

    def report(self, failure: Failure) -> bool:
        """Write a notice unless this run and source have one; return whether it is new.

        Without a webhook there is nobody to tell, and nothing is written.
        """
        if not self.settings.webhook_url:
            return False
        now = self.clock().isoformat(timespec="seconds")
        body = self._body(failure, now)
        with self._open() as connection:
            done = connection.execute(
                "INSERT OR IGNORE INTO outbox (event_id, run_id, source, body, created_at) VALUES (?, ?, ?, ?, ?)",
                (body["event_id"], failure.run_id, failure.source, json.dumps(body), now),
            )
        return done.rowcount == 1

    def deliver(self, session: requests.Session | None = None, budget: int = 4) -> list[str]:
        """Send up to `budget` waiting notices, oldest first, and return what went wrong.

        Stops at the first failure: a receiver that is down is asked once, not once a notice.
        """
        url = self.settings.webhook_url
        if not url or not self.path.exists():
            return []
        session = session or requests.Session()
        for _ in range(budget):
            claimed = self._claim()
            if claimed is None:
                return []
            event_id, body = claimed
            problem = self._post(session, url, event_id, body)
            self._settle(event_id, problem)
            if problem:
                return [problem]
        return []

    def waiting(self) -> int:
        """Return how many notices are not delivered yet."""
        if not self.path.exists():
            return 0
        with self._open() as connection:
            return int(connection.execute("SELECT count(*) FROM outbox WHERE delivered_at IS NULL").fetchone()[0])

    def _body(self, failure: Failure, now: str) -> dict[str, Any]:
        port = self.settings.environ.get("REFRESH_UI_PORT", "3000")
        return {
            "version": 1,
            "event_id": str(uuid.uuid4()),
            "sent_at": now,
            "event": "incident.opened",
            "incident_id": str(uuid.uuid4()),
            "source": failure.source,
            "partition": ", ".join(failure.partitions) or None,
            "error_class": failure.error_class,
            "message": redact(failure.message),
            "run_id": failure.run_id,
            "opened_at": now,
            "count": max(1, len(failure.partitions)),
            "url": f"http://127.0.0.1:{port}/runs/{failure.run_id}",
        }

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=30)) as connection, connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(_TABLE)
            yield connection

    def _claim(self) -> tuple[str, str] | None:
        """Take the oldest waiting notice, so that no other process sends it at the same time."""
        now = self.clock()
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            row = connection.execute(
                "SELECT event_id, body FROM outbox"
                " WHERE delivered_at IS NULL AND (claimed_at IS NULL OR claimed_at < ?)"
                " ORDER BY created_at, rowid LIMIT 1",
                ((now - CLAIM).isoformat(),),
            ).fetchone()
            if row:
                connection.execute(
                    "UPDATE outbox SET claimed_at = ?, attempts = attempts + 1 WHERE event_id = ?",
                    (now.isoformat(), row[0]),
                )
        return (row[0], row[1]) if row else None

    def _post(self, session: requests.Session, url: str, event_id: str, body: str) -> str | None:
        headers = {"Content-Type": "application/json", "X-Refresh-Event-Id": event_id}
        try:
            response = session.post(url, data=body.encode(), headers=headers, timeout=TIMEOUT, allow_redirects=False)
        except requests.RequestException as error:
            return redact(f"the webhook could not be reached: {error}", [url])
        if response.status_code >= 300:
            return f"the webhook answered HTTP {response.status_code}"
        return None

    def _settle(self, event_id: str, problem: str | None) -> None:
        with self._open() as connection:
            if problem:
                statement = "UPDATE outbox SET claimed_at = NULL, last_error = ? WHERE event_id = ?"
                connection.execute(statement, (problem, event_id))
            else:
                statement = "UPDATE outbox SET delivered_at = ?, last_error = NULL WHERE event_id = ?"
                connection.execute(statement, (self.clock().isoformat(timespec="seconds"), event_id))
