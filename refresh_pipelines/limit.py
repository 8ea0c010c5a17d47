"""The time one refresh may take: ends it from inside, and says in which stage it was.

A thread looks at the clock and interrupts the main thread as Ctrl-C does, so that whatever is open is rolled back
and removed by the code that does so for a cancelled run. A process that no longer reacts is ended from outside
(`orchestration/stuck`).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from refresh_pipelines.errors import InternalError, RefreshError, UpstreamUnavailable, WarehouseBusy
from refresh_pipelines.units import format_duration

# A library may swallow what the first interruption raises.
AGAIN = 5.0
LOCK, FETCH, QUERY, READ, LOAD, COMMIT, DONE = "lock", "fetch", "query", "read", "load", "commit", "done"
STAGES = {
    LOCK: "waiting for the lock of its partition",
    FETCH: "fetching",
    QUERY: "running its query",
    READ: "reading what was fetched",
    LOAD: "loading into the warehouse, or waiting for it",
    COMMIT: "committing",
    DONE: "reporting",
}
# The stage that follows what `Tools.progress` is told.
AFTER = {"fetched": READ, "archived": READ, "staged": LOAD, "merged": COMMIT, "committed": DONE, "held": DONE}


_statements: set[Callable[[], None]] = set()


@contextmanager
def interruptible(stop: Callable[[], None]) -> Iterator[None]:
    """Have a time limit stop what the body does by calling `stop`, from another thread, before it sends a signal.

    A handler that raises while DuckDB works makes it wait for its own threads to finish all they have begun (2.0, seen
    for minutes); its connections have an `interrupt` that does not.
    """
    _statements.add(stop)
    try:
        yield
    finally:
        _statements.discard(stop)


class Limit:
    """Interrupts the main thread when a refresh has taken too long, unless it has committed by then.

    Nothing is interrupted where the refresh is not the main thread's work: signals reach no other one.

    Args:
        seconds: the time there is.
        entered: told each stage as the refresh enters it.

    Attributes:
        stage: what the refresh does, a key of `STAGES`.
        up: whether the time is over and the main thread was interrupted for that.
    """

    def __init__(self, seconds: float, entered: Callable[[str], None] = lambda _: None) -> None:
        self.seconds, self.stage, self.up = seconds, LOCK, False
        self._entered = entered
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def start(self) -> None:
        """Begin to count."""
        self._entered(self.stage)
        if threading.current_thread() is threading.main_thread():
            self._wait(self.seconds)

    def enter(self, stage: str) -> None:
        """Say which stage begins."""
        self.stage = stage
        self._entered(stage)

    def stop(self) -> None:
        """Count no more. After it nothing is interrupted, and `up` stays as it is."""
        with self._lock:
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _wait(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._over)
        self._timer.daemon = True
        self._timer.start()

    def _over(self) -> None:
        with self._lock:  # so that nothing is interrupted once `stop` has returned
            if self._timer is None or self.stage == DONE:
                return
            first, self.up = not self.up, True
            self._wait(AGAIN)  # before anything that might fail
            running = [*_statements]
            for stop in running:
                stop()
            if not (first and running):
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def too_long(stage: str, limit: timedelta, more: str = "") -> RefreshError:
    """Return what a refresh fails with that took longer than its limit; nothing of it was loaded.

    Waiting for the upstream is `transient` like any time-out, waiting for another refresh of the partition `busy`.
    What takes too long after that is this machine's trouble: `internal`. The run ends with it.

    Args:
        more: what else is to be said, as a clause.
    """
    kind = {FETCH: UpstreamUnavailable, LOCK: WarehouseBusy}.get(stage, InternalError)
    allowed = format_duration(limit)
    error = kind(
        "the refresh took too long",
        expected=f"its end within time_limit {allowed}",
        came=f"still {STAGES.get(stage, stage)} after {allowed}{more}",
        todo=f"Nothing of it was loaded. {_TODO.get(stage, _LONGER)}",
    )
    error.stops = True
    return error


_LONGER = "Raise `time_limit` in the YAML if it needs so long, or have it ask for less at once."
_TODO = {
    FETCH: "See whether the upstream answers; raise `time_limit` in the YAML if it only is slow.",
    LOCK: "Another run refreshes the same partition; look at that one in `dagster dev`.",
}
