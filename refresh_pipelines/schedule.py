"""When a source is due: cron expressions of the presets, their validity, the next instants. Pure.

Dagster decides what a cron expression is, with a croniter of its own; accepting here what it
refuses would break the whole code location, so `valid_cron` stays within it (a test compares both).
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from functools import lru_cache
from zoneinfo import ZoneInfo

from croniter import croniter

from refresh_pipelines.spec import Schedule

WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def cron_of(schedule: Schedule, source: str) -> str:
    """Return the cron expression of a schedule.

    `source` is the source's name: what a preset may depend on besides its own fields.

    Raises:
        ValueError: the schedule has neither frequency nor cron, or a day its frequency has not.
    """
    if schedule.cron is not None:
        return schedule.cron.strip()
    hour, minute = (int(part) for part in schedule.time.split(":"))
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
    return preset()


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
    if after.tzinfo is None:
        raise ValueError("`after` needs a time zone")
    local = after.astimezone(ZoneInfo(zone))
    if croniter.expand(cron)[0][1] == ["*"]:
        ticks = croniter(cron, local, ret_type=datetime)
        return [ticks.get_next(datetime).astimezone(timezone.utc) for _ in range(count)]
    # On the wall clock, from a day before: the second of two equal times may still lie ahead.
    walls = croniter(cron, local.replace(tzinfo=None, fold=0) - timedelta(days=1), ret_type=datetime)
    out: list[datetime] = []
    while len(out) < count:
        at = _instant(walls.get_next(datetime), ZoneInfo(zone))
        if at > (out[-1] if out else after):
            out.append(at)
    return out


def _instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the UTC instant of a wall clock's time."""
    while True:
        at = wall.replace(tzinfo=zone, fold=1).astimezone(timezone.utc)
        if at.astimezone(zone).replace(tzinfo=None) == wall:
            return at
        wall += timedelta(minutes=1)  # In a gap: the first time after it.
