"""Tell a person that a refresh failed: written once to an outbox, then delivered to the webhook.

The outbox (`ops.sqlite` in the data folder) is what makes a notice exactly one: the run that
failed, the sensor that finds crashed runs and any number of processes may all report the same
failure, and the first one's row wins. What could not be delivered stays and is tried again; what the
receiver refuses (4xx) waits longer, so that one bad notice holds no other one back.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import requests

from refresh_pipelines.clock import utc_now
from refresh_pipelines.errors import RefreshError
from refresh_pipelines.ops import instant_text, ops_file, ops_store
from refresh_pipelines.outcome import Outcome
from refresh_pipelines.proxy import route_of
from refresh_pipelines.redact import redact
from refresh_pipelines.settings import Settings

TIMEOUT = 5.0
CLAIM = timedelta(minutes=1)
REFUSED = timedelta(hours=1)
# Of 4xx these may pass if sent again soon.
_PASSING = frozenset({408, 425, 429})
_TABLE = """
CREATE TABLE IF NOT EXISTS outbox (
    event_id TEXT PRIMARY KEY, run_id TEXT NOT NULL, source TEXT NOT NULL, body TEXT NOT NULL,
    created_at TEXT NOT NULL, not_before TEXT NOT NULL, delivered_at TEXT, attempts INTEGER NOT NULL DEFAULT 0,
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

    @classmethod
    def of(cls, source: str, run_id: str, bad: Sequence[Outcome]) -> Failure:
        """Return what to tell about a run's failed outcomes; the first one gives the class."""
        keys = tuple(outcome.partition for outcome in bad if outcome.partition)
        text = "\n".join(dict.fromkeys(outcome.message or "" for outcome in bad))
        return cls(source, run_id, keys, bad[0].error_class or "internal", text)


class Notices:
    """The outbox and its delivery."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime] = utc_now) -> None:
        self.settings, self.clock = settings, clock
        self.path = ops_file(settings.data_dir)

    def report(self, failure: Failure) -> bool:
        """Write a notice unless this run and source have one; return whether it is new.

        Without a webhook there is nobody to tell, and nothing is written.
        """
        if not self.settings.webhook_url:
            return False
        now = self.clock()
        body = self._body(failure, now.isoformat(timespec="seconds"))
        with self._open() as connection:
            done = connection.execute(
                "INSERT OR IGNORE INTO outbox (event_id, run_id, source, body, created_at, not_before)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (
                    body["event_id"],
                    failure.run_id,
                    failure.source,
                    json.dumps(body),
                    instant_text(now),
                    instant_text(now),
                ),
            )
        return done.rowcount == 1

    def deliver(self, session: requests.Session | None = None, budget: int = 4) -> list[str]:
        """Send up to `budget` waiting notices, oldest first, and return what went wrong.

        Stops when the receiver is down, so that it is asked once and not once a notice.
        """
        url = self.settings.webhook_url
        if not url or not self.path.exists():
            return []
        session, problems = session or _session(), []
        for _ in range(budget):
            claimed = self._claim()
            if claimed is None:
                break
            event_id, body = claimed
            sent = {**json.loads(body), "sent_at": self.clock().isoformat(timespec="seconds")}
            status, problem = self._post(session, url, event_id, json.dumps(sent))
            refused = status // 100 == 4 and status not in _PASSING
            self._settle(event_id, problem, REFUSED if refused else timedelta(0))
            if problem:
                problems.append(problem)
            if problem and not refused:
                break
        return problems

    def waiting(self, source: str | None = None) -> int:
        """Return how many notices are not delivered yet, of all sources or of one."""
        if not self.path.exists():
            return 0
        query = "SELECT count(*) FROM outbox WHERE delivered_at IS NULL AND source = coalesce(?, source)"
        with self._open() as connection:
            return int(connection.execute(query, [source]).fetchone()[0])

    def forget(self, source: str) -> None:
        """Remove the notices of a source that are not delivered yet."""
        with self._open() as connection:
            connection.execute("DELETE FROM outbox WHERE delivered_at IS NULL AND source = ?", [source])

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

    def _open(self) -> AbstractContextManager[sqlite3.Connection]:
        return ops_store(self.path, _TABLE)

    def _claim(self) -> tuple[str, str] | None:
        """Take the oldest waiting notice, so that no other process sends it at the same time."""
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            row = connection.execute(
                "SELECT event_id, body FROM outbox"
                " WHERE delivered_at IS NULL AND not_before <= ? ORDER BY created_at, rowid LIMIT 1",
                (instant_text(self.clock()),),
            ).fetchone()
            if row:
                connection.execute(
                    "UPDATE outbox SET not_before = ?, attempts = attempts + 1 WHERE event_id = ?",
                    (instant_text(self.clock() + CLAIM), row[0]),
                )
        return (row[0], row[1]) if row else None

    def _post(self, session: requests.Session, url: str, event_id: str, body: str) -> tuple[int, str | None]:
        """Return the status (0: no answer) and what went wrong."""
        headers = {"Content-Type": "application/json", "X-Refresh-Event-Id": event_id}
        try:
            how = route_of(url, self.settings.environ)
        except RefreshError as error:
            return 0, f"the webhook was not asked: {error}"
        try:
            # Streamed, because the answer's body is nobody's business and may never end.
            with session.post(
                url, data=body.encode(), headers=headers, timeout=TIMEOUT, allow_redirects=False, stream=True,
                proxies=how.proxies, verify=how.verify,
            ) as response:  # fmt: skip
                status = response.status_code
        except requests.exceptions.ProxyError as error:
            return 0, f"the proxy of {how.proxy} did not let the webhook be reached: {type(error).__name__}"
        except requests.RequestException as error:
            # The error's text names the path, which is the secret of most webhooks.
            return 0, f"the webhook could not be reached: {type(error).__name__}"
        return status, None if status < 300 else f"the webhook answered HTTP {status}"

    def _settle(self, event_id: str, problem: str | None, pause: timedelta) -> None:
        now = self.clock()
        with self._open() as connection:
            if problem:
                statement = "UPDATE outbox SET not_before = ?, last_error = ? WHERE event_id = ?"
                connection.execute(statement, (instant_text(now + pause), problem, event_id))
            else:
                statement = "UPDATE outbox SET delivered_at = ?, last_error = NULL WHERE event_id = ?"
                connection.execute(statement, (instant_text(now), event_id))


def _session() -> requests.Session:
    session = requests.Session()
    # Proxies and certificates are chosen for each post, from `.env` too; the session would add those it finds itself.
    session.trust_env = False
    return session
