"""Requests to one host, kept apart: those of this process, and of all processes that share a data folder.

Each request takes its turn in the table `buckets` of `ops.sqlite`: one row for each host says when the newest
request goes or will go, and until when nobody may. Whoever comes next goes an interval later. Where the store
cannot be used, each process keeps the rate by itself.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from refresh_pipelines.ops import ops_file, ops_store
from refresh_pipelines.spec import SourceSpec

# A request that waits longer than this for the store does better without it.
PATIENCE = 5.0
# After its turn has come a request looks whether the host was closed meanwhile; this often at most.
LOOKS = 3
_MICRO = 1_000_000
_NEVER = -(10**18)
# No rate is slower than one request a day, so a host that was left alone for two is forgotten.
_KEPT = 2 * 86_400 * _MICRO
_TABLES = """
CREATE TABLE IF NOT EXISTS buckets (
    host TEXT PRIMARY KEY, last_at INTEGER NOT NULL, closed_until INTEGER NOT NULL, written_at INTEGER NOT NULL);
"""


def host_of(url: str) -> str:
    """Return the host of an address in small letters, without port and password; "" without one."""
    return urlsplit(url).hostname or ""


def host_rates(specs: Iterable[SourceSpec]) -> dict[str, float]:
    """Return the requests a second that each host may get: the lowest rate of the enabled sources that ask it."""
    found: dict[str, float] = {}
    for spec in specs:
        rate = spec.request.rate
        for url in spec.request.candidates if rate and spec.enabled else ():
            host = host_of(url)
            found[host] = min(rate or math.inf, found.get(host, math.inf))
    return found


@dataclass
class _Row:
    """One host, in microseconds since 1970.

    Attributes:
        now: what time it is, read when nobody else could write any more.
        last_at: when the newest request goes; it may be still to come.
        closed_until: before this nobody asks, whatever the rate.
    """

    now: int
    last_at: int
    closed_until: int


class Buckets:
    """Turns at hosts for any number of processes.

    All methods raise sqlite3.Error or OSError when the store cannot be used.

    Args:
        path: the store.
        now: the time on which all its users agree, UTC-aware.
        patience: seconds to wait for somebody who holds it.
    """

    def __init__(self, path: Path, now: Callable[[], datetime], patience: float = PATIENCE) -> None:
        self.path, self.now, self.patience = path, now, patience

    def take(self, host: str, rate: float) -> float:
        """Take the next turn at a host and return the seconds until it comes.

        Whatever the rates of those who take turns, each goes as far behind the one before as its own rate says.
        """
        with self._host(host) as row:
            row.last_at = max(row.now, row.closed_until, row.last_at + math.ceil(_MICRO / rate))
            return (row.last_at - row.now) / _MICRO

    def close(self, host: str, seconds: float) -> None:
        """Have nobody ask the host for so long."""
        with self._host(host) as row:
            row.closed_until = max(row.closed_until, row.now + math.ceil(seconds * _MICRO))

    def is_closed(self, host: str) -> bool:
        """Whether somebody has closed the host for a time that is not over."""
        with self._host(host) as row:
            return row.closed_until > row.now

    @contextmanager
    def _host(self, host: str) -> Iterator[_Row]:
        """Yield the row of a host for one transaction, and write what becomes of it."""
        with ops_store(self.path, _TABLES, self.patience) as store:
            # A turn that is lost with the power needs no sync of the disk.
            store.execute("PRAGMA synchronous = NORMAL")
            store.execute("BEGIN IMMEDIATE")
            now = round(self.now().timestamp() * _MICRO)
            found = store.execute("SELECT last_at, closed_until, written_at FROM buckets WHERE host = ?", [host])
            known = found.fetchone()
            if known is None:
                store.execute("DELETE FROM buckets WHERE max(last_at, closed_until) < ?", [now - _KEPT])
            row = _row(now, known)
            yield row
            values = (host, row.last_at, row.closed_until, now)
            store.execute("INSERT OR REPLACE INTO buckets VALUES (?, ?, ?, ?)", values)


def _row(now: int, known: tuple[int, int, int] | None) -> _Row:
    if known is None:
        return _Row(now, _NEVER, _NEVER)
    last_at, closed_until, written_at = known
    # Whoever wrote it saw a later time than it is: the clock was set back, and all instants with it.
    ahead = max(0, written_at - now)
    return _Row(now, last_at - ahead, closed_until - ahead)


class Pace:
    """Has the requests of one process wait for their turns.

    Args:
        data_dir: where the store is; without this folder the process keeps the rate by itself.
        now: the time that processes agree on.
        clock: seconds that only ever grow, for this process.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        patience: float = PATIENCE,
    ) -> None:
        self.clock, self.sleep = clock, sleep
        self._buckets: Buckets | None = Buckets(ops_file(data_dir), now, patience)
        self._rates: Mapping[str, float] = {}
        self._warn: Callable[[str], None] = lambda _: None
        self._last_sent: dict[str, float] = {}

    def join(self, rates: Mapping[str, float], warn: Callable[[str], None]) -> None:
        """Keep the rates of a catalogue, whoever asks, and say where trouble with the store is told."""
        self._rates, self._warn = rates, warn

    def wait(self, host: str, own: float | None) -> None:
        """Wait until a request to the host is within its rate.

        Args:
            host: as `host_of` says it.
            own: requests a second that the asking source allows itself; the lower one of two rates holds.
        """
        rate = self._rate(host, own)
        if rate is None:
            return
        self._with_store(lambda buckets: self._take_turn(buckets, host, rate))
        left = self._last_sent.get(host, -math.inf) + 1 / rate - self.clock()
        if left > 0:
            self.sleep(left)
        self._last_sent[host] = self.clock()

    def close(self, host: str, own: float | None, seconds: float) -> None:
        """Have all processes that keep a rate at this host leave it alone for so long."""
        if self._rate(host, own) is not None:
            self._with_store(lambda buckets: buckets.close(host, seconds))

    def _rate(self, host: str, own: float | None) -> float | None:
        rates = [rate for rate in (own, self._rates.get(host)) if rate]
        return min(rates, default=None)

    def _take_turn(self, buckets: Buckets, host: str, rate: float) -> None:
        for _ in range(LOOKS):
            left = buckets.take(host, rate)
            if left <= 0:
                return
            self.sleep(left)
            if not buckets.is_closed(host):
                return

    def _with_store(self, action: Callable[[Buckets], None]) -> None:
        """Do something with the store; after its first trouble never again."""
        if self._buckets is None or not self._buckets.path.parent.is_dir():
            return
        try:
            action(self._buckets)
        except (OSError, sqlite3.Error) as error:
            self._warn(
                f"{self._buckets.path} cannot be used ({error}), so this run keeps request.rate by itself: "
                "other processes may ask the same host at the same time."
            )
            self._buckets = None
