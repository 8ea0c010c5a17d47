"""When a source is due: cron expressions of the presets, their validity, the next instants. Pure.

Dagster decides what a cron expression is, with a croniter of its own; accepting here what it
refuses would break the whole code location, so `valid_cron` stays within it (a test compares both).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from heapq import heappop, heappush
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from croniter import croniter

from refresh_pipelines.spec import Schedule

WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
# How far back the newest tick may lie, the usual first; leap days may be eight years apart.
_REACHES = tuple(timedelta(days=days) for days in (0.05, 2, 40, 400, 9 * 366))
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def cron_of(schedule: Schedule, source: str) -> str:
    """Return the cron expression of a schedule.

    `source` is the source's name, of which `jitter` makes a shift: always the same one, and another
    for another source. The sources of a batch have the shift of its name.

    Raises:
        ValueError: the schedule has neither frequency nor cron, or a day its frequency has not.
    """
    if schedule.cron is not None:
        return _leap_day(schedule.cron.strip())
    hour, minute = divmod(_minute_of_day(schedule) + shift_of(schedule, source), 60)
    # `refresh check` refuses a jitter that passes midnight: the day would be another one.
    hour = hour % 24
    at = f"{minute} {hour}"
    presets = {
        "hourly": lambda: f"{minute} * * * *",
        "daily": lambda: f"{at} * * *",
        "weekly": lambda: f"{at} * * {_weekday(schedule.day)}",
        "monthly": lambda: f"{at} {_month_day(schedule.day)} * *",
        "quarterly": lambda: f"{at} {_month_day(schedule.day)} 1,4,7,10 *",
        "annual": lambda: f"{at} {_month_day(schedule.day)} {schedule.month or 1} *",
    }
    preset = presets.get(schedule.frequency or "")
    if preset is None:
        raise ValueError(f"{source} has no rhythm: schedule.frequency is {schedule.frequency}")
    return _leap_day(preset())


def _leap_day(cron: str) -> str:
    """Write 29 February so that Dagster finds it: from `29 2` it makes the day after the 28th, and is then too late."""
    fields = cron.split()
    return f"{fields[0]} {fields[1]} 29 feb *" if fields[2:] == ["29", "2", "*"] else cron


def _minute_of_day(schedule: Schedule) -> int:
    hour, minute = (int(part) for part in schedule.time.split(":"))
    return hour * 60 + minute


def shift_of(schedule: Schedule, source: str) -> int:
    """Return by how many minutes `jitter` moves a preset: from 0 to all of it, the same for a name at all times.

    The name is the batch's where there is one: its sources stay together.
    """
    most = int(schedule.jitter.total_seconds() // 60)
    return zlib.crc32((schedule.batch or source).encode()) % (most + 1)


def most_jitter(schedule: Schedule) -> timedelta:
    """Return how far a preset can be moved without its day becoming another, or its hour for hourly ones."""
    if schedule.frequency == "hourly":
        return timedelta(minutes=59)
    return timedelta(minutes=24 * 60 - 1 - _minute_of_day(schedule))


def _weekday(day: str | int | None) -> int:
    name = "sunday" if day is None else str(day).lower()
    if name not in WEEKDAYS:
        raise ValueError(f"day of a weekly schedule is a weekday's name, not {day!r}")
    return WEEKDAYS.index(name)


def _month_day(day: str | int | None) -> int:
    number = 1 if day is None else day
    if not isinstance(number, int) or not 1 <= number <= 31:
        raise ValueError(f"day of a schedule is a number from 1 to 31, not {day!r}")
    return number


@lru_cache(maxsize=4096)
def valid_cron(text: str) -> bool:
    """Tell whether Dagster takes `text` as a cron expression: five fields, or a preset of as many."""
    # Dagster's croniter is older: it has no W (nearest weekday), and its idea of digits is wider.
    if not text.isascii() or _names_nearest_weekday(text) or not croniter.is_valid(text):
        return False
    fields = croniter.expand(text)[0]
    return len(fields) == 5 and not (fields[3] == [2] and fields[2] in ([30], [31]))


def _names_nearest_weekday(text: str) -> bool:
    fields = text.lower().split()
    return len(fields) > 2 and "w" in fields[2]


@lru_cache(maxsize=4096)
def ever_fires(cron: str) -> bool:
    """Tell whether a valid cron expression has any date at all: `0 0 31 4 *` has none."""
    _, _, days, months, weekdays = croniter.expand(cron)[0]
    numbers = [day for day in days if isinstance(day, int)]
    if weekdays != ["*"] or len(numbers) < len(days):
        return True
    longest = max(_LONGEST[month - 1] for month in months if isinstance(month, int)) if months != ["*"] else 31
    return min(numbers) <= longest


def next_fires(cron: str, zone: str, after: datetime, count: int) -> list[datetime]:
    """Return the next `count` instants after `after`, in UTC, of a cron expression read in `zone`.

    As Dagster has it: a time that a change of the clock skips is moved to the end of the gap, one
    that comes twice counts the second time, and a cron of every hour goes on through both. Raises
    ValueError when `after` has no zone.
    """
    return list(_next_fires(cron, zone, after, count))


@lru_cache(maxsize=4096)
def _next_fires(cron: str, zone: str, after: datetime, count: int) -> tuple[datetime, ...]:
    # Of a thousand sources hundreds share a cron, and whoever looks at all of them asks about one instant.
    return tuple(islice(_fires(cron, ZoneInfo(zone), after), count))


@lru_cache(maxsize=4096)
def _numbers(cron: str) -> tuple[tuple[int | str, ...], ...]:
    """Return each field's numbers, ("*",) for all."""
    return tuple(tuple(field) for field in croniter.expand(cron)[0])


def fires_between(cron: str, zone: str, after: datetime, until: datetime) -> list[datetime]:
    """Return every instant later than `after` and not later than `until`, in UTC, oldest first."""
    return list(takewhile(lambda fire: fire <= until, _fires(cron, ZoneInfo(zone), after)))


@lru_cache(maxsize=4096)
def last_fire(cron: str, zone: str, at: datetime) -> datetime:
    """Return the newest instant up to and including `at`, in UTC.

    Raises ValueError when there was none in the nine years before: no cron expression that ever fires is rarer.
    """
    for reach in _REACHES:
        found = fires_between(cron, zone, at - reach, at)
        if found:
            return found[-1]
    raise ValueError(f"{cron} has not fired in the years before {at}")


def _fires(cron: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    if after.tzinfo is None:
        raise ValueError("an instant needs a time zone")
    # On the wall clock, from a day before: the second of two equal times may still lie ahead.
    local = after.astimezone(zone).replace(tzinfo=None, fold=0)
    walls = _walls(cron, local - timedelta(days=1))
    every_hour = _numbers(cron)[1] == ("*",)
    last = after
    for at in _in_every_hour(walls, zone) if every_hour else _once_a_day(walls, zone):
        if at > last:
            last = at
            yield at


def _walls(cron: str, start: datetime) -> Iterator[datetime]:
    """Yield the wall clock's times later than `start`.

    croniter is asked for the days alone: a time takes it as long as a day, and a quarter may have 26,000 of them.
    """
    fields = cron.split()
    if len(fields) != 5:
        yield from croniter(cron, start, ret_type=datetime)
        return
    minutes, hours = (
        range(size) if numbers == ("*",) else sorted(number for number in numbers if isinstance(number, int))
        for numbers, size in zip(_numbers(cron), (60, 24), strict=False)
    )
    for day in _days(fields[2:], start.replace(hour=0, minute=0, second=0, microsecond=0)):
        for hour in hours:
            for minute in minutes:
                wall = day.replace(hour=hour, minute=minute)
                if wall > start:
                    yield wall


def _days(fields: list[str], first: datetime) -> Iterator[datetime]:
    """Yield the days, from the first one on, that day, month and weekday of a cron expression allow."""
    if fields == ["*"] * 3:
        while True:
            yield first
            first += timedelta(days=1)
    yield from croniter(" ".join(["0", "0", *fields]), first - timedelta(seconds=1), ret_type=datetime)


def _once_a_day(walls: Iterator[datetime], zone: ZoneInfo) -> Iterator[datetime]:
    """Yield the instants of wall clock times: of two the second, of a skipped one the first after the gap."""
    for wall in walls:
        moved = wall
        while not (found := _instants(moved, zone)):
            moved += timedelta(minutes=1)
        yield found[-1]


def _in_every_hour(walls: Iterator[datetime], zone: ZoneInfo) -> Iterator[datetime]:
    """Yield every instant that bears one of the wall clock's times, in order: those that come twice come twice."""
    ahead: list[datetime] = []
    for wall in walls:
        found = _instants(wall, zone)
        for at in found:
            heappush(ahead, at)
        # Later times on the wall begin later, but the second of two may come after the first of the next.
        while found and ahead and ahead[0] <= found[0]:
            yield heappop(ahead)


def _instants(wall: datetime, zone: ZoneInfo) -> list[datetime]:
    """Return the instants at which the clock shows a time: one, two where it is set back, none where it skips."""
    both = {wall.replace(tzinfo=zone, fold=fold).astimezone(timezone.utc) for fold in (0, 1)}
    return sorted(at for at in both if at.astimezone(zone).replace(tzinfo=None, fold=0) == wall)
