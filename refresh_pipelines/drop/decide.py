"""When the sensor asks for a run of dropped files, and when it asks again. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from refresh_pipelines.drop.look import by_day, pick
from refresh_pipelines.drop.stability import Sighting
from refresh_pipelines.spec import Drop

# What a run has left unsettled, since storage or warehouse were out of reach, is asked for at growing intervals.
FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=1)


@dataclass(frozen=True)
class DayRun:
    """One run to request: a day, and the files it is meant for.

    Attributes:
        run_key: the same for the same files, until they are asked for again.
    """

    day: str
    files: tuple[Sighting, ...]
    run_key: str


def days_due(pending: Sequence[Sighting], drop: Drop, busy: Collection[str], now: datetime) -> list[DayRun]:
    """Return the runs to request, one for each day that has files to ask for and no run under way."""
    out = []
    for day, files in by_day(pending).items():
        if day in busy or not any(is_due(file, now) for file in files):
            continue
        chosen = pick(files, drop)
        out.append(DayRun(day, tuple(chosen), f"{day}|{_digest(chosen)}"))
    return out


def is_due(file: Sighting, now: datetime) -> bool:
    """Whether a file that no run has settled is to be asked for now."""
    if file.requested_at is None:
        return True
    # A clock that was set back asks again at once: that costs a run, and waiting might last for ever.
    return now < file.requested_at or now >= file.requested_at + wait_after(file.requests)


def wait_after(requests: int) -> timedelta:
    """Return how long a run has after it was asked for the given number of times."""
    # The exponent is bounded, since timedelta is.
    growing: timedelta = FIRST_WAIT * 4 ** min(max(0, requests - 1), 5)
    return min(growing, LONGEST_WAIT)


def _digest(files: Sequence[Sighting]) -> str:
    lines = "\n".join(f"{file.key} {file.version} {file.requests}" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()[:16]
