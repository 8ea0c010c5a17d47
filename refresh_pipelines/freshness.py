"""Whether a source is overdue, and by which partition: the check `fresh`. Pure.

Each partition that should be there is judged by itself, so a backfill of old ones calms nothing. A
period that no tick asks for any more and that was loaded once is never overdue again.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from refresh_pipelines.expected import Expectation, Since, rhythm_of
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.units import format_duration

_MOMENT = timedelta(microseconds=1)
MOST_NAMED = 50


def _nobody(_at: datetime) -> datetime | None:
    return None


@dataclass(frozen=True)
class Facts:
    """What is known of a source's good refreshes.

    Attributes:
        newest: the newest one of any partition; None: never loaded.
        succeeded: every partition that ever had one.
        last: the newest one of each partition that the newest tick asks for.
        asked_before: the newest one up to an instant of a partition that ticks asked for at that time, if any.
        changed_at: the newest change by a refresh of a partition that ticks asked for at that time.
    """

    newest: datetime | None = None
    succeeded: Collection[str | None] = ()
    last: Mapping[str | None, datetime] = field(default_factory=dict)
    asked_before: Callable[[datetime], datetime | None] = _nobody
    changed_at: datetime | None = None


@dataclass(frozen=True)
class Late:
    """One limit that is past.

    Attributes:
        key: the partition; None for a source without partitions, and for the limit `changed`.
        since: the last good refresh or change; for what was never refreshed the tick it was first due at.
        due_by: until when it should have been refreshed.
    """

    limit: Literal["checked", "changed"]
    key: str | None
    since: datetime
    due_by: datetime
    never: bool = False


@dataclass(frozen=True)
class Verdict:
    """How fresh a source is.

    Attributes:
        late: the limits that are past, the oldest partition first; of very many the first fifty.
        more: how many more there are.
        loaded: whether there is anything to be fresh: what was never loaded and is not late has no verdict yet.
        until: from when on the verdict may be another one without any refresh; None: never.
    """

    late: tuple[Late, ...] = ()
    loaded: bool = True
    until: datetime | None = None
    more: int = 0

    @property
    def overdue(self) -> bool | None:
        """Whether the source is overdue; None while that cannot be said."""
        return True if self.late else False if self.loaded else None

    @property
    def partitions(self) -> tuple[str, ...]:
        """The partitions that are overdue, of those that are named."""
        return tuple(late.key for late in self.late if late.key is not None)

    @property
    def identity(self) -> str:
        """What makes two verdicts the same one to whoever is told: the first limit that is past, and of what."""
        return "|".join((self.late[0].limit, self.late[0].key or "")) if self.late else "fresh"


def freshness_of(
    spec: SourceSpec, expectation: Expectation | None, facts: Facts, now: datetime, since: Since
) -> Verdict:
    """Return how fresh a source is at `now`.

    Args:
        spec: the source; one without limits is never overdue.
        expectation: what should be there; None before the first tick is due, and for sources that are not due at times.
        facts: its good refreshes.
        since: from when the source's ticks count, and when it last went on after a pause.
    """
    due = [*_checked(spec, expectation, facts, now, since), *_changed(spec, expectation, facts, since)]
    late = tuple(one for one in due if now > one.due_by)
    ahead = [one.due_by for one in due if now <= one.due_by]
    if rhythm := rhythm_of(spec):
        ahead.append(rhythm.first_from(now + _MOMENT if expectation else since.enabled_at))
    more = max(0, len(late) - MOST_NAMED)
    return Verdict(late[:MOST_NAMED], facts.newest is not None, min(ahead, default=None), more)


def _checked(
    spec: SourceSpec, expectation: Expectation | None, facts: Facts, now: datetime, since: Since
) -> list[Late]:
    """Return until when each partition should be refreshed, of those that may be late: the oldest first."""
    limit = spec.freshness.checked
    if limit is None:
        return []
    if expectation is None:
        # A source that is not due at times, or whose first tick lies ahead: only the age of what it has counts.
        if facts.newest is None or rhythm_of(spec):
            return []
        begins = max(filter(None, (facts.newest, since.resumed_at)))
        return [Late("checked", None, facts.newest, begins + limit)]
    never = _never(spec, expectation, facts, now, limit)
    floor = _after_pause(spec, expectation)
    again = [
        Late("checked", key, facts.last[key], max(filter(None, (facts.last[key] + limit, floor))))
        for key in expectation.asked
        if key in facts.last
    ]
    return [*never, *again]


def _never(spec: SourceSpec, expectation: Expectation, facts: Facts, now: datetime, limit: timedelta) -> list[Late]:
    """Return what was never refreshed and is late, and the one that will be next.

    Later periods are due later, so of very many only those are looked at that a bisection asks for.
    """
    missing = expectation.missing(facts.succeeded)
    grace = _grace(spec)

    def due_by(key: str | None) -> datetime:
        first = expectation.first_due(key)
        return max(first + grace, (facts.asked_before(first) or first) + limit)

    late = bisect_left(missing, now, key=due_by)
    return [Late("checked", key, expectation.first_due(key), due_by(key), never=True) for key in missing[: late + 1]]


def _changed(spec: SourceSpec, expectation: Expectation | None, facts: Facts, since: Since) -> Iterator[Late]:
    limit = spec.freshness.changed
    if limit is not None and facts.changed_at is not None:
        floor = _after_pause(spec, expectation) if expectation else since.resumed_at
        yield Late("changed", None, facts.changed_at, max(filter(None, (facts.changed_at + limit, floor))))


def _after_pause(spec: SourceSpec, expectation: Expectation) -> datetime | None:
    """Return before when nothing is late because the source was paused: its first tick since, and time to act on it."""
    resumed_at = expectation.since.resumed_at
    return expectation.rhythm.first_from(resumed_at) + _grace(spec) if resumed_at else None


def _grace(spec: SourceSpec) -> timedelta:
    return spec.schedule.misfire_grace if spec.schedule else timedelta(0)


def verdict_text(verdict: Verdict) -> str:
    """Write a verdict so that `verdict_from` reads it."""
    return json.dumps(asdict(verdict), default=datetime.isoformat)


def verdict_from(text: str) -> Verdict:
    """Read a verdict that `verdict_text` wrote."""
    values = json.loads(text)
    late = tuple(
        Late(**{**one, **{name: datetime.fromisoformat(one[name]) for name in ("since", "due_by")}})
        for one in values["late"]
    )
    until = values["until"]
    return Verdict(late, values["loaded"], datetime.fromisoformat(until) if until else None, values["more"])


def sentence(spec: SourceSpec, late: Late) -> str:
    """Say in one sentence what is late, since when, and by which limit."""
    allowed = spec.freshness.checked if late.limit == "checked" else spec.freshness.changed
    rule = f"(freshness.{late.limit} {format_duration(allowed or timedelta(0))})"
    name = spec.name + (f"[{late.key}]" if late.key else "")
    if late.limit == "changed":
        return f"{name}: nothing has changed since {clock(late.since)}; expected by {clock(late.due_by)} {rule}"
    if late.never:
        told = f"was due at {clock(late.since)} and has never been refreshed"
    else:
        told = f"has not been refreshed since {clock(late.since)}"
    return f"{name} {told}; expected by {clock(late.due_by)} {rule}"


def judged(spec: SourceSpec) -> bool:
    """Whether a source can be overdue at all: it is enabled and names a limit."""
    return spec.enabled and (spec.freshness.checked is not None or spec.freshness.changed is not None)


def clock(at: datetime) -> str:
    """Write an instant as people read it, UTC."""
    return f"{at:%Y-%m-%d %H:%M} UTC"
