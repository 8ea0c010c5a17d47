"""Which partitions should be there, and since which tick: the one answer for freshness, gaps, catch-up and gates. Pure.

A partition is expected once a due tick has asked for it, and the first tick that counts is the first
after the source was enabled; under `initial: all` every partition is expected from that tick on. So a
first start raises no flood, and what was never asked for is no gap.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from refresh_pipelines.schedule import cron_of, fires_between, last_fire, next_fires
from refresh_pipelines.spec import Partitions, SourceSpec
from refresh_pipelines.window import available_at, newest_periods, partition_keys, split_key, time_keys

_MOMENT = timedelta(microseconds=1)


@dataclass(frozen=True)
class Rhythm:
    """A cron expression and the zone it is read in."""

    cron: str
    zone: str

    def first_from(self, at: datetime) -> datetime:
        """Return the first tick at or after an instant, UTC."""
        return next_fires(self.cron, self.zone, at - _MOMENT, 1)[0]

    def newest(self, now: datetime) -> datetime:
        """Return the newest tick up to and including `now`, UTC."""
        return last_fire(self.cron, self.zone, now)

    def between(self, after: datetime, until: datetime) -> list[datetime]:
        """Return the ticks later than `after` up to and including `until`, UTC, oldest first."""
        return fires_between(self.cron, self.zone, after, until)


@dataclass(frozen=True)
class Since:
    """From when a source's ticks count.

    Attributes:
        enabled_at: when the source was first seen enabled.
        resumed_at: when it went on after it was last disabled or paused, None if it never was.
    """

    enabled_at: datetime
    resumed_at: datetime | None = None


def rhythm_of(spec: SourceSpec) -> Rhythm | None:
    """Return when a source is due; None for one that is disabled, or not due at times."""
    schedule = spec.schedule
    if schedule is None or not spec.enabled or not (schedule.cron or schedule.frequency not in (None, "on_event")):
        return None
    return Rhythm(cron_of(schedule, spec.source), schedule.timezone)


def expectation(spec: SourceSpec, since: Since, now: datetime, dynamic: Sequence[str] = ()) -> Expectation | None:
    """Return what should be there at `now`; None if no tick has been due, or the source is not due at times.

    Args:
        dynamic: keys of a dynamic dimension.
    """
    rhythm = rhythm_of(spec)
    if rhythm is None or now < (first := rhythm.first_from(since.enabled_at)):
        return None
    return Expectation(spec, rhythm, since, first, rhythm.newest(now), tuple(dynamic))


@dataclass(frozen=True)
class Expectation:
    """What should be there at an instant.

    Attributes:
        first: the first tick that counts.
        newest: the newest tick that was due.
        dynamic: keys of a dynamic dimension.
    """

    spec: SourceSpec
    rhythm: Rhythm
    since: Since
    first: datetime
    newest: datetime
    dynamic: tuple[str, ...] = ()

    @cached_property
    def keys(self) -> tuple[str | None, ...]:
        """Every partition that should be there, oldest first or as declared; (None,) without partitions."""
        partitions = self.spec.partitions
        if partitions is None:
            return (None,)
        if partitions.time is None:
            return tuple(partition_keys(self.spec, self.newest, self.dynamic))
        return tuple(self._crossed(partitions, self._periods(partitions)))

    @cached_property
    def asked(self) -> tuple[str | None, ...]:
        """What the newest tick asks for: the newest period and its look-back, or everything without periods."""
        partitions = self.spec.partitions
        if partitions is None or partitions.time is None:
            return self.keys
        return tuple(self._crossed(partitions, newest_periods(partitions, self.newest)))

    def first_due(self, key: str | None) -> datetime:
        """Return the tick that had to load a partition first; after a pause not before it ended."""
        partitions, due = self.spec.partitions, self.first
        if partitions is not None and partitions.time is not None and key is not None:
            available = available_at(partitions, key)
            due = due if available <= due else self.rhythm.first_from(available)
        if self.since.resumed_at is not None and due < self.since.resumed_at:
            due = self.rhythm.first_from(self.since.resumed_at)
        return due

    def due_at(self, key: str | None) -> datetime:
        """Return the tick since which a partition should have been refreshed: the newest that asked for it."""
        return self.newest if key in self.asked else self.first_due(key)

    def was_asked(self, key: str | None, at: datetime) -> bool:
        """Whether the tick before an instant asked for a partition, or a later one did: otherwise it was a backfill."""
        partitions = self.spec.partitions
        if partitions is None or partitions.time is None or key is None:
            return True
        oldest = newest_periods(partitions, self.rhythm.newest(at))[:1]
        return not oldest or split_key(key)[0] >= oldest[0]

    def missing(self, succeeded: Collection[str | None]) -> list[str | None]:
        """Return what is expected and has no success, in order; what is only due later than now is left out."""
        left = [key for key in self.keys if key not in succeeded]
        partitions = self.spec.partitions
        if partitions is None or partitions.time is None:
            return left
        return [key for key in left if key is not None and available_at(partitions, key) <= self.newest]

    def _periods(self, partitions: Partitions) -> list[str]:
        if partitions.initial == "all":
            return time_keys(partitions, self.newest)
        asked_first = newest_periods(partitions, self.first)
        return time_keys(partitions, self.newest, asked_first[0] if asked_first else None)

    def _crossed(self, partitions: Partitions, periods: Sequence[str]) -> Iterator[str]:
        for period in periods:
            if partitions.dimension is None:
                yield period
            else:
                yield from (f"{period}|{key}" for key in partitions.static[partitions.dimension])
