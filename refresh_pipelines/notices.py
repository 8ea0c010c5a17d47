"""Tell a person that something is wrong, once, and that it is over, once: incidents into the outbox, and out of it.

Both live in `ops.sqlite` in the data folder, and every change is one transaction: the run that failed, the sensor
that finds crashed runs and any number of processes may report the same failure, and the first one counts. What could
not be delivered stays and is tried again, in order for each route; what the receiver refuses (4xx) waits
longer, so that one bad notice holds no other one back.
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import requests

from refresh_pipelines import incident_store, outbox
from refresh_pipelines.alert_body import body_of
from refresh_pipelines.alert_tables import alert_store
from refresh_pipelines.clock import utc_now
from refresh_pipelines.deliver import new_session, post
from refresh_pipelines.incident import Condition, Event, Failure, Good, Incident
from refresh_pipelines.incidents import Board
from refresh_pipelines.notice_log import log_incidents, log_notice
from refresh_pipelines.ops import instant_text, ops_file
from refresh_pipelines.outbox import CLAIM, Notice
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec

__all__ = ["CLAIM", "REFUSED", "Failure", "Look", "Notices", "route_for"]

REFUSED = timedelta(hours=1)
# A receiver that hangs holds up whoever delivers no longer than this and one more post.
PATIENCE = 15.0


@dataclass(frozen=True)
class Look:
    """What one look at the instance has found.

    Attributes:
        goods: all good refreshes of a source since its open incidents began, for those where something changed.
        conditions: what holds now.
        judged: of which sources that is known, by kind.
        awake: sources whose incidents may be reminded of.
        first: the first look ever: nobody is told of what holds already.
    """

    goods: Sequence[tuple[SourceSpec, Sequence[Good]]] = ()
    conditions: Sequence[Condition] = ()
    judged: Mapping[str, Collection[str]] = field(default_factory=dict)
    awake: Collection[str] = ()
    first: bool = False


def route_for(spec: SourceSpec, settings: Settings) -> str:
    """Return the route of a source: `alerts.route`, or its tenant's where that has a webhook of its own."""
    tenant = re.sub(r"[^a-z0-9]+", "_", (spec.tenant or "").lower())
    if "route" in spec.alerts.model_fields_set or tenant not in settings.routes:
        return spec.alerts.route
    return tenant


class Notices:
    """The incidents and their outbox.

    All methods raise sqlite3.Error when `ops.sqlite` cannot be used.
    """

    def __init__(self, settings: Settings, clock: Callable[[], datetime] = utc_now) -> None:
        self.settings, self.clock = settings, clock
        self.path = ops_file(settings.data_dir)

    def report(self, failure: Failure) -> bool:
        """Enter a failure unless this run and source have been; return whether it is new.

        Without a webhook nobody is told; the incident is kept for `refresh status`, and told if there is one later.
        """
        now = self.clock()
        with alert_store(self.path) as store:
            if not incident_store.is_new(store, failure.run_id, failure.source, now):
                return False
            board = incident_store.read_board(store)
            board.fail(failure, now)
            board.settle(now, heard=self._heard)
            self._keep(store, board, now)
        log_incidents(board.events)
        return True

    def know(self, run_id: str, source: str) -> None:
        """Have a failure count as reported, without a word."""
        with alert_store(self.path) as store:
            incident_store.is_new(store, run_id, source, self.clock())

    def known(self, run_id: str, source: str) -> bool:
        """Whether a failure was reported."""
        if not self.path.exists():
            return False
        with alert_store(self.path) as store:
            query = "SELECT 1 FROM reported WHERE run_id = ? AND source = ?"
            return store.execute(query, [run_id, source]).fetchone() is not None

    def open(self, source: str | None = None) -> list[Incident]:
        """Return the open incidents of all sources or of one, oldest first."""
        if not self.path.exists():
            return []
        with alert_store(self.path) as store:
            return incident_store.open_incidents(store, source)

    def look(self, look: Look, *, release: bool = False) -> int:
        """Enter what was found, and decide what is told; return how many notices are new.

        `release` has nobody wait any longer for others of its host.
        """
        if not look.conditions and not self.path.exists():
            return 0
        now = self.clock()
        with alert_store(self.path) as store:
            board = incident_store.read_board(store)
            for spec, goods in look.goods:
                board.good(spec, goods)
            board.stand(look.conditions, look.judged, now, silent=look.first)
            board.settle(now, look.awake, release=release, heard=self._heard)
            self._keep(store, board, now)
            incident_store.prune(store, now)
            outbox.prune(store, now)
        log_incidents(board.events)
        return len(board.events)

    def deliver(self, session: requests.Session | None = None, budget: int = 4) -> list[str]:
        """Send up to `budget` waiting notices of each route, oldest first, and return what went wrong.

        Stops with a route when its receiver is down, so that it is asked once and not once a notice.
        """
        if not self.settings.routes or not self.path.exists():
            return []
        with alert_store(self.path) as store:
            routes = outbox.waiting_routes(store)
        problems: list[str] = []
        session, until = session or new_session(), time.monotonic() + PATIENCE
        for route in routes:
            if time.monotonic() < until:
                problems += self._deliver(session, route, budget)
        return problems

    def release(self) -> list[str]:
        """Have nobody wait for others of its host any longer, deliver, and return what went wrong."""
        self.look(Look(), release=True)
        return self.deliver()

    def waiting(self, source: str | None = None) -> int:
        """Return how many notices are not delivered yet, of all sources or of one."""
        if not self.path.exists():
            return 0
        with alert_store(self.path) as store:
            return outbox.count_waiting(store, source)

    def kinds(self) -> dict[str, str]:
        """Return the class of each source's newest open incident, first of those that are no mere consequence."""
        found = [one for one in self.open() if one.opened_at]
        found.sort(key=lambda one: (not one.standing, one.last_at, one.id))
        return {one.source: one.kind for one in found}

    def newest(self, limit: int) -> list[Notice]:
        """Return what waits, in order, and then the newest that were delivered."""
        if not self.path.exists():
            return []
        with alert_store(self.path) as store:
            return outbox.newest(store, limit)

    def forget(self, source: str) -> None:
        """Remove the incidents of a source, and its notices that are not delivered yet."""
        with alert_store(self.path) as store:
            outbox.forget(store, source)
            incident_store.forget(store, source, self.clock())

    def _heard(self, route: str) -> bool:
        return self.settings.webhook(route) is not None

    def _keep(self, store: sqlite3.Connection, board: Board, now: datetime) -> None:
        """Write down what a board has decided, and the notices of it."""
        incident_store.keep(store, board)
        port = self.settings.environ.get("REFRESH_UI_PORT") or "3000"
        for event in board.events:
            outbox.put(store, _row(event, body_of(event, now, port), now), event.number)

    def _deliver(self, session: requests.Session, route: str, budget: int) -> Iterator[str]:
        hook = self.settings.webhook(route)
        for _ in range(budget if hook else 0):
            with alert_store(self.path) as store:
                claimed = outbox.claim(store, route, self.clock())
            if claimed is None or hook is None:
                return
            event_id, text = claimed
            body = {**json.loads(text), "sent_at": self.clock().isoformat(timespec="seconds")}
            answer = post(session, self.settings, hook, body)
            with alert_store(self.path) as store:
                pause = REFUSED if answer.refused else timedelta(0)
                outbox.settle(store, event_id, self.clock(), answer.problem, pause)
            log_notice(body, route, answer)
            if answer.problem:
                yield answer.problem if route == "default" else f"route {route}: {answer.problem}"
                if not answer.refused:
                    return


def _row(event: Event, body: Mapping[str, object], now: datetime) -> dict[str, object]:
    one = event.incident
    return {
        "event_id": event.id,
        "incident_id": one.id,
        "event": event.kind,
        "source": one.source,
        "route": one.rule.route,
        "body": json.dumps(body),
        "created_at": instant_text(now),
    }
