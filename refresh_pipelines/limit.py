"""The time one refresh may take: ends it from inside, and says in which stage it was.

A thread looks at the clock and interrupts the one that refreshes as Ctrl-C does, so that whatever is open is rolled
back and removed by the code that does so for a cancelled run. A process that no longer reacts is ended from outside
(`orchestration/stuck`).
"""

from __future__ import annotations

import ctypes
import signal
import threading
from collections import defaultdict
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


# By the number of the thread that waits for them.
_statements: defaultdict[int, set[Callable[[], None]]] = defaultdict(set)


@contextmanager
def interruptible(stop: Callable[[], None]) -> Iterator[None]:
    """Have a time limit stop what the body does by calling `stop`, from another thread, before it sends a signal.

    A handler that raises while DuckDB works makes it wait for its own threads to finish all they have begun (2.0, seen
    for minutes); its connections have an `interrupt` that does not.
    """
    own = _statements[threading.get_ident()]
    own.add(stop)
    try:
        yield
    finally:
        own.discard(stop)


def _running(thread: threading.Thread) -> list[Callable[[], None]]:
    return [*_statements.get(thread.ident or 0, ())]


def interrupt(thread: threading.Thread, error: type[BaseException] = KeyboardInterrupt) -> None:
    """Have a thread of this process raise an error where it is.

    The main thread is sent SIGINT, which also ends a wait of the system; it raises what the handler raises. Signals
    reach no other one: it raises `error` with its next line of Python, so after a read, whose time is limited, or a
    sleep. What it asks of a database is stopped at once, if it is `interruptible`.

    Args:
        thread: one that has ended is left alone: another may have its number.
    """
    stops, number = _running(thread), thread.ident if thread.is_alive() else None
    if number is not None and thread is not threading.main_thread():
        # Before it is woken: a request that was cut off would else be tried again first.
        # https://docs.python.org/3/c-api/threads.html#c.PyThreadState_SetAsyncExc
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(number), ctypes.py_object(error))
    for stop in stops:
        stop()
    if number is not None and thread is threading.main_thread():
        signal.pthread_kill(number, signal.SIGINT)


class Limit:
    """Interrupts the thread that starts it when a refresh has taken too long, unless it has committed by then.

    Args:
        seconds: the time there is.
        entered: told each stage as the refresh enters it.

    Attributes:
        stage: what the refresh does, a key of `STAGES`.
        up: whether the time is over and the thread was interrupted for that.
    """

    def __init__(self, seconds: float, entered: Callable[[str], None] = lambda _: None) -> None:
        self.seconds, self.stage, self.up = seconds, LOCK, False
        self._entered = entered
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._thread = threading.current_thread()

    def start(self) -> None:
        """Begin to count."""
        self._entered(self.stage)
        self._thread = threading.current_thread()
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
            running = _running(self._thread)
            if first and running and self._thread is threading.main_thread():
                for stop in running:
                    stop()
            else:
                interrupt(self._thread)


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
