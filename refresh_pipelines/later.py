"""When a partition that failed for a passing reason is asked for again: later, as a run of its own. Pure.

Quick tries are made inside the request and short ones inside the run, which holds a slot meanwhile. What is left
after them is asked for at growing intervals that go on where those of the run have ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from refresh_pipelines.breaker import Event
from refresh_pipelines.spec import Retry

# A person looks at what he started; dropped files and derived sources have sensors that come back by themselves.
RETRIED = frozenset({"schedule", "catch_up", "retry"})
# Nobody but the upstream, or a program that holds the warehouse, has to do anything about these.
PASSING = frozenset({"transient", "busy"})
# The sensor comes once a minute.
SHORTEST = timedelta(minutes=1)
# 2^20 times a second is twelve days; no pause is longer than max_delay anyway.
_MOST_DOUBLED = 20


@dataclass(frozen=True)
class Waiting:
    """A partition whose newest event is a failure that may pass.

    Attributes:
        run_id: the run that failed.
        later: how many later tries it will have had with the next one, from 1.
        retry_at: before this instant the upstream wants no other request.
    """

    key: str | None
    run_id: str
    at: datetime
    later: int
    retry_at: datetime | None = None


@dataclass(frozen=True)
class LaterTry:
    """One run to ask for again: what failed, and the partitions of it that wait."""

    run_id: str
    keys: tuple[str | None, ...]
    at: datetime


def waiting_of(events: Iterable[Event], since: int = -1) -> tuple[Waiting, ...]:
    """Return the partitions that wait for a later try, in the order in which they failed.

    Args:
        events: of the source.
        since: the place in the log from which on every event is known.
    """
    by_key: dict[str | None, list[Event]] = {}
    for event in sorted(events, key=lambda event: event.order):
        if event.order >= since:
            by_key.setdefault(event.key, []).append(event)
    newest = [(own[-1], own) for own in by_key.values() if _passing(own[-1]) and own[-1].trigger in RETRIED]
    newest.sort(key=lambda pair: pair[0].order)
    return tuple(Waiting(e.key, e.run_id, e.at, _later(own), e.retry_at) for e, own in newest)


def _passing(event: Event) -> bool:
    return event.outcome == "failed" and event.error_class in PASSING


def _later(events: Sequence[Event]) -> int:
    count = 1
    for event in reversed(events):
        if not _passing(event) or event.trigger != "retry":
            break
        count += 1
    return count


def pause_inside(retry: Retry, number: int) -> timedelta:
    """Return the pause inside a run before its retry of this number, from 1, as Dagster's retry policy has it."""
    delays: int = 2 ** min(number, _MOST_DOUBLED) - 1
    return delays * retry.delay


def pause_before(retry: Retry, later: int) -> timedelta:
    """Return the pause before the later try of this number, from 1: those inside the run, continued."""
    doubled = 2 ** min(retry.attempts - 1 + later, _MOST_DOUBLED) - 1
    seconds = min(doubled * retry.delay.total_seconds(), retry.max_delay.total_seconds())
    return max(SHORTEST, timedelta(seconds=seconds))


def left_alone_until(waiting: Iterable[Waiting], longest: timedelta) -> datetime | None:
    """Return the instant before which ticks do not ask, because the upstream said so with a failure.

    Args:
        waiting: `waiting_of` the source.
        longest: after a failure an upstream is obeyed for so long.
    """
    return max((min(one.retry_at, one.at + longest) for one in waiting if one.retry_at), default=None)


def later_tries(
    retry: Retry, waiting: Iterable[Waiting], next_tick: Callable[[datetime], datetime], longest: timedelta
) -> tuple[LaterTry, ...]:
    """Return the later tries to be made, one for each run that failed, with the instant from which on they are due.

    None is made where the next scheduled tick that asks comes before it.

    Args:
        retry: the pauses.
        waiting: `waiting_of` the source.
        next_tick: the first tick after an instant.
        longest: of `left_alone_until`.
    """
    runs: dict[str, list[Waiting]] = {}
    for one in waiting:
        runs.setdefault(one.run_id, []).append(one)
    found = (LaterTry(run_id, tuple(one.key for one in some), _due_at(retry, some)) for run_id, some in runs.items())
    return tuple(one for one in found if one.at < next_tick(_tick_asks_after(runs[one.run_id], longest)))


def _tick_asks_after(some: Sequence[Waiting], longest: timedelta) -> datetime:
    failed = max(one.at for one in some)
    return max(failed, left_alone_until(some, longest) or failed)


def _due_at(retry: Retry, some: Sequence[Waiting]) -> datetime:
    at = max(one.at + pause_before(retry, one.later) for one in some)
    return max([at, *(one.retry_at for one in some if one.retry_at)])
