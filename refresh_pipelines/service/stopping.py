"""A stop that loses nothing: no new runs, time for those that go on, and a word on those that got too little of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from refresh_pipelines.errors import RefreshError
from refresh_pipelines.orchestration.server import history_errors
from refresh_pipelines.redact import redact
from refresh_pipelines.service import supervised
from refresh_pipelines.service.processes import DAEMON, WATCH, code_socket
from refresh_pipelines.settings import Settings
from refresh_pipelines.units import format_duration

if TYPE_CHECKING:
    from dagster import DagsterInstance, DagsterRun

_POLL, _NEWS = 0.5, 15.0
# A run that is asked to stop writes its last events; what takes longer is killed with the code server.
_LAST_WORDS = 30.0


@dataclass
class Stopped:
    """What a stop did: runs that were cancelled, and processes that had to be killed."""

    cancelled: list[str] = field(default_factory=list)
    killed: list[int] = field(default_factory=list)


def drain(
    instance: DagsterInstance,
    settings: Settings,
    say: Callable[[str], None],
    patience: float,
    clock: Callable[[], float] = time.monotonic,
) -> list[str]:
    """Wait for the runs of the code server, then cancel those that are left and return their numbers.

    They end as `failed`, class `interrupted`. Nothing new may start meanwhile: stop the daemon before.
    """
    from refresh_pipelines.orchestration.drain import cancel_runs, names_of, runs_of  # noqa: PLC0415 - imports Dagster

    def left() -> list[DagsterRun]:
        return runs_of(instance, code_socket(settings))

    runs = _wait(left, patience, lambda runs: say(f"Waiting for {len(runs)}: {names_of(runs)}"), clock)
    if not runs:
        return []
    limit = format_duration(settings.stop_timeout) if patience else "no time"
    say(f"Cancelling {len(runs)} that got {limit} (REFRESH_STOP_TIMEOUT): {names_of(runs)}")
    cancel_runs(instance, runs, "the service is being stopped, and this run took longer than REFRESH_STOP_TIMEOUT")
    _wait(left, _LAST_WORDS, lambda _: None, clock)
    return [run.run_id for run in runs]


def stop(settings: Settings, found: supervised.Running, say: Callable[[str], None], *, now: bool = False) -> Stopped:
    """Stop everything; `now` gives runs no time.

    If it is interrupted while it waits, what it has stopped is started again and runs go on.
    """
    out = Stopped()
    with _history(settings, say) as instance:
        try:
            for name in (WATCH, DAEMON):
                with suppress(RefreshError):  # a supervisor that does not answer is ended all the same
                    supervised.switch(settings, name, on=False)
            out.cancelled = _drained(instance, settings, say, now=now)
        except KeyboardInterrupt:
            for name in (DAEMON, WATCH):
                supervised.switch(settings, name, on=True)
            raise
        # Without the history nobody knows the runs but the code server, which waits for its own.
        given = 0.0 if instance or now else settings.stop_timeout.total_seconds()
        out.killed = supervised.end(found.pid, given + _LAST_WORDS)
        # Of a code server that was killed the server inside lives until its runs have ended.
        out.killed += supervised.end_orphans(supervised.orphans(settings), _LAST_WORDS)
        _settle(instance, settings)
    supervised.forget(settings)
    return out


def stop_orphans(
    settings: Settings, orphans: Sequence[psutil.Process], say: Callable[[str], None], *, now: bool = False
) -> Stopped:
    """Do as `stop` does with what a supervisor has left that was killed."""
    out = Stopped()
    with _history(settings, say) as instance:
        first = [process for process in orphans if _starts_runs(process)]
        out.killed = supervised.end_orphans(first, _LAST_WORDS)
        out.cancelled = _drained(instance, settings, say, now=now)
        given = 0.0 if instance or now else settings.stop_timeout.total_seconds()
        out.killed += supervised.end_orphans(supervised.orphans(settings), given + _LAST_WORDS)
        _settle(instance, settings)
    supervised.forget(settings)
    return out


@contextmanager
def _history(settings: Settings, say: Callable[[str], None]) -> Iterator[DagsterInstance | None]:
    """Yield Dagster's history; None where it cannot be used: a service can be stopped that has lost it."""
    from refresh_pipelines.orchestration.instance import open_instance  # noqa: PLC0415 - a second's import

    try:
        instance = open_instance(settings)
    except RefreshError as error:
        say(f"{error.problem} ({error.came}).")
        say("The code server is given time for the runs it knows; what is to be recorded of them is recorded later.")
        yield None
        return
    with instance:
        yield instance


def _drained(
    instance: DagsterInstance | None, settings: Settings, say: Callable[[str], None], *, now: bool
) -> list[str]:
    if instance is None:
        return []
    try:
        return drain(instance, settings, say, 0.0 if now else settings.stop_timeout.total_seconds())
    except history_errors() as error:
        say(f"Dagster's history went away, so runs are not waited for any longer: {redact(str(error))[:300]}")
        return []


def _settle(instance: DagsterInstance | None, settings: Settings) -> None:
    """Give a run that did not react, and was killed with the code server, its event; without history later."""
    from refresh_pipelines.orchestration.stuck import settle  # noqa: PLC0415

    if instance:
        with suppress(*history_errors()):  # any command does it once the history is back
            settle(instance, settings, kill=False)


def _starts_runs(process: psutil.Process) -> bool:
    try:
        return bool({"dagster._daemon", "refresh_pipelines.cli.watch"} & set(process.cmdline()))
    except psutil.Error:
        return False  # it has just ended


def _wait(
    left: Callable[[], list[DagsterRun]],
    patience: float,
    news: Callable[[list[DagsterRun]], None],
    clock: Callable[[], float],
) -> list[DagsterRun]:
    """Return what is left when nothing is or the time is over; tell the news at once and now and then."""
    until, told = clock() + patience, 0.0
    while runs := left():
        if clock() >= until:
            return runs
        if not told or clock() - told >= _NEWS:
            news(runs)
            told = clock()
        time.sleep(_POLL)
    return []
