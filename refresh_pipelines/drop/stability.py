"""When a file that arrives is whole, and on which day it came. Pure: decided from what was listed, and when.

A file is whole when two looks at least `quiet` apart saw the same version of it, or when its own time
says that nobody has touched it for so long. Its own time comes from the storage's clock and counts only
as far as it is believable: never when it lies before that of the version we saw before. Two looks are
measured by our clock alone, so a storage whose clock runs ahead delays a file and never keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone


@dataclass(frozen=True)
class Seen:
    """One file in a listing: path relative to the folder, size, version, and when it was touched as the storage has it.

    `modified_at` is None where the storage does not say.
    """

    key: str
    size: int
    version: str
    modified_at: datetime | None


@dataclass(frozen=True)
class Sighting:
    """What is remembered of one version of a file.

    Attributes:
        first_seen_at: when it became known to us; `day` is the UTC day of that, its partition.
        since: since when it was the same at every look.
        stable_at: when it counted as whole, None if not yet.
        settled: status in the file ledger, None until a run has dealt with it; settled_spec: the YAML's hash then.
        requests: how often the sensor asked for a run with it; requested_at: the last time.
    """

    key: str
    version: str
    size: int
    modified_at: datetime | None
    first_seen_at: datetime
    last_seen_at: datetime
    since: datetime
    stable_at: datetime | None
    day: str
    settled: str | None = None
    settled_spec: str | None = None
    requests: int = 0
    requested_at: datetime | None = None


def day_of(at: datetime) -> str:
    """Return the partition of an instant: its UTC day."""
    return at.astimezone(timezone.utc).date().isoformat()


def look(known: Iterable[Sighting], listed: Sequence[Seen], now: datetime, quiet: timedelta) -> list[Sighting]:
    """Return a sighting for each listed file, as it is after this look."""
    by_key: dict[str, list[Sighting]] = {}
    for sighting in known:
        by_key.setdefault(sighting.key, []).append(sighting)
    return [_look_at(seen, by_key.get(seen.key, []), now, quiet) for seen in listed]


def _look_at(seen: Seen, versions: list[Sighting], now: datetime, quiet: timedelta) -> Sighting:
    before = next((sighting for sighting in versions if sighting.version == seen.version), None)
    others = [sighting for sighting in versions if sighting.version != seen.version]
    returned = before and any(other.first_seen_at > before.first_seen_at for other in others)
    if before is None or returned or before.size != seen.size:
        # New, or back again after another version: content that was replaced has to be loaded once more.
        fresh = Sighting(seen.key, seen.version, seen.size, seen.modified_at, now, now, now, None, day_of(now))
        return _judged(fresh, others, now, quiet)
    if before.stable_at is not None:
        return before
    # A clock that was set back must not let a file wait until it has caught up.
    since = before.since if before.since <= now else now
    moved = replace(before, modified_at=seen.modified_at, last_seen_at=now, since=since)
    return _judged(moved, others, now, quiet)


def _judged(sighting: Sighting, others: list[Sighting], now: datetime, quiet: timedelta) -> Sighting:
    watched = now - sighting.since >= quiet
    earlier = [other.modified_at for other in others if other.modified_at]
    touched = sighting.modified_at
    believable = touched is not None and all(touched >= other for other in earlier)
    untouched = believable and touched is not None and now - touched >= quiet
    # With a quiet of zero both hold at once, also for a file from the future.
    return replace(sighting, stable_at=now) if watched or untouched else sighting


def arrival(sighting: Sighting) -> tuple[datetime, datetime, str]:
    """Return what sorts files in the order in which they arrived."""
    return sighting.first_seen_at, sighting.modified_at or sighting.first_seen_at, sighting.key
