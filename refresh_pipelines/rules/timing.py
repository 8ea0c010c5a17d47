"""Rules for schedules and waits: a rhythm Dagster can keep, a zone that exists, short retries."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from refresh_pipelines.draft import Draft
from refresh_pipelines.problems import Problem, did_you_mean
from refresh_pipelines.schedule import WEEKDAYS, cron_of, ever_fires, most_jitter, valid_cron
from refresh_pipelines.spec import DEFAULT_TIME_LIMIT, Schedule
from refresh_pipelines.units import format_duration

# What a process and a request need in any case.
LEAST_TIME = timedelta(minutes=1)
# A run that waits holds its slot; longer waits are later runs.
WAIT_CAP = timedelta(seconds=90)
_MONTH_DAYS = ("monthly", "quarterly", "annual")


def check_rhythm(draft: Draft) -> Iterator[Problem]:
    """The cron expression is one Dagster takes, and a preset has only the details it knows."""
    schedule = draft.schedule
    if schedule is None or "schedule" in draft.bad:
        return
    if schedule.cron is not None:
        for key in ("day", "month", "time", "jitter"):
            if draft.wrote("schedule", key):
                yield draft.problem(("schedule", key), f"{key} goes with frequency, not with cron", key=True)
        yield from _check_cron(draft, schedule.cron.strip(), "cron")
        return
    found = list(_check_preset(draft, schedule))
    yield from found
    if not found and schedule.frequency not in (None, "on_event"):
        key = "day" if draft.wrote("schedule", "day") else "frequency"
        yield from _check_cron(draft, cron_of(schedule, draft.source), key)


def _check_cron(draft: Draft, cron: str, key: str) -> Iterator[Problem]:
    loc = ("schedule", key)
    if not valid_cron(cron):
        hint = "five fields: minute hour day month weekday, for instance 0 17 * * 1"
        yield draft.problem(loc, f"not a cron expression that Dagster takes: {cron}", hint)
    elif not ever_fires(cron):
        yield draft.problem(loc, f"no date ever fits {cron}", "the month has no such day")


def _check_preset(draft: Draft, schedule: Schedule) -> Iterator[Problem]:
    frequency, day, loc = schedule.frequency, schedule.day, ("schedule", "day")
    if schedule.jitter > (most := most_jitter(schedule)):
        hint = f"at most {format_duration(most)}: what it moves stays within its {_within(frequency)}"
        yield draft.problem(("schedule", "jitter"), f"a jitter of {format_duration(schedule.jitter)} is too long", hint)
    if schedule.month is not None and frequency != "annual":
        yield draft.problem(("schedule", "month"), "month goes with frequency: annual only", key=True)
    if day is None:
        return
    if frequency == "weekly":
        if str(day).lower() not in WEEKDAYS:
            yield draft.problem(loc, "day of a weekly schedule is a weekday's name", _near_weekday(day))
    elif frequency not in _MONTH_DAYS:
        yield draft.problem(loc, f"a schedule that is {frequency or 'not set'} has no day", key=True)
    elif not isinstance(day, int) or not 1 <= day <= 31:
        yield draft.problem(loc, "day of this schedule is a number from 1 to 31")
    elif day > 28 and frequency != "annual":
        hint = "28 is in every month"
        yield draft.problem(loc, f"months without a day {day} are passed over", hint, severity="note")


def _within(frequency: str | None) -> str:
    return "hour" if frequency == "hourly" else "day"


def _near_weekday(day: str | int) -> str:
    short = [name for name in WEEKDAYS if isinstance(day, str) and name.startswith(day.lower())]
    return f"did you mean {short[0]}?" if len(short) == 1 else did_you_mean(day, WEEKDAYS)


def check_zone(draft: Draft) -> Iterator[Problem]:
    """The time zone is one of the IANA names."""
    if draft.schedule is not None and not is_zone(draft.schedule.timezone):
        name = draft.schedule.timezone
        hint = did_you_mean(name, available_timezones()) or "an IANA name such as America/New_York"
        yield draft.problem(("schedule", "timezone"), f"unknown time zone {name}", hint)


@lru_cache
def is_zone(name: str) -> bool:
    """Whether there is a time zone of this IANA name."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def check_retry(draft: Draft) -> Iterator[Problem]:
    """The waits between the tries inside one run stay under the cap."""
    if "retry" in draft.bad:
        return
    retry = draft.retry
    # Dagster's exponential backoff waits (2^n - 1) times the delay before try n + 1.
    waits = sum(((2**n - 1) * retry.delay for n in range(1, retry.attempts)), timedelta())
    if waits <= WAIT_CAP:
        return
    key = "attempts" if draft.wrote("retry", "attempts") and not draft.wrote("retry", "delay") else "delay"
    message = f"{retry.attempts} attempts with a delay of {format_duration(retry.delay)} wait {format_duration(waits)}"
    hint = "fewer attempts or a shorter delay"
    yield draft.problem(("retry", key), f"{message} inside one run; the cap is {format_duration(WAIT_CAP)}", hint)


def check_breaker(draft: Draft) -> Iterator[Problem]:
    """The first pause before a probe is no longer than the longest."""
    if "breaker" in draft.bad or draft.breaker.probe <= draft.breaker.probe_max:
        return
    key = "probe_max" if draft.wrote("breaker", "probe_max") else "probe"
    first, longest = format_duration(draft.breaker.probe), format_duration(draft.breaker.probe_max)
    hint = "probe_max is the longest pause between probes"
    yield draft.problem(("breaker", key), f"a probe after {first} is beyond probe_max of {longest}", hint)


def check_time_limit(draft: Draft) -> Iterator[Problem]:
    """The time limit leaves time for the request it holds."""
    if draft.wrote("time_limit") and "time_limit" not in draft.sections:
        return  # it could not be read
    limit = draft.sections.get("time_limit") or DEFAULT_TIME_LIMIT
    timeout = draft.request.timeout if draft.request and not draft.derive else timedelta()
    if limit < LEAST_TIME:
        message, hint = f"a time limit of {format_duration(limit)} is too short", "at least 1m"
    elif limit < timeout:
        message = f"a time limit of {format_duration(limit)} is shorter than the request's own timeout"
        hint = f"at least request.timeout, {format_duration(timeout)}"
    else:
        return
    key = ("time_limit",) if draft.wrote("time_limit") or limit < LEAST_TIME else ("request", "timeout")
    yield draft.problem(key, message, hint)
