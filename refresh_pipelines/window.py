"""Partitions as intervals of time and keys. Pure arithmetic; keys and windows are always UTC.

A key is the first instant of its period: an hour is `2026-01-31-05:00`, everything longer is a
date. A static key is one declared value, a dynamic one a value that was added later. With two
dimensions a key is `2026-01-31|44013`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta, timezone
from typing import Any

from refresh_pipelines.errors import RefreshError, UpstreamRefused
from refresh_pipelines.spec import Partitions, SourceSpec

MONTHS = {"month": 1, "quarter": 3, "year": 12}
STEPS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}


@dataclass(frozen=True)
class Window:
    """What one refresh covers.

    Attributes:
        partition: the key, or None for a source without partitions.
        start: first instant, UTC; for a static partition where reading starts; None: unbounded.
        end: first instant after it, UTC; None: unbounded.
        names: the values a request or column may name, for instance {"series_id": "DEXUSEU"}.
    """

    partition: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    names: dict[str, Any] = field(default_factory=dict)

    @property
    def fields(self) -> dict[str, Any]:
        """Everything `{...}` may stand for."""
        own = {"partition": self.partition or "", "start": self.start, "end": self.end}
        return {**self.names, **{k: v for k, v in own.items() if v is not None}}


class UnknownPartition(ValueError):
    """A partition key that the source does not have; the message says what its keys look like."""


def key_format(kind: str) -> str:
    """Return the strftime format of a time partition's keys."""
    return "%Y-%m-%d-%H:%M" if kind == "hour" else "%Y-%m-%d"


def floor_period(kind: str, at: datetime, origin: datetime) -> datetime:
    """Return the start of the period that `at` lies in. Weeks count from `origin`."""
    at = at.astimezone(timezone.utc)
    if kind == "hour":
        return at.replace(minute=0, second=0, microsecond=0)
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if kind == "day":
        return day
    if kind == "week":
        return day - timedelta(days=(day - origin).days % 7)
    months = MONTHS[kind]
    return day.replace(month=(day.month - 1) // months * months + 1, day=1)


def next_period(kind: str, start: datetime, count: int = 1) -> datetime:
    """Return the start of the period `count` after the one that begins at `start`."""
    if kind in STEPS:
        return start + count * STEPS[kind]
    month = start.month - 1 + count * MONTHS[kind]
    return start.replace(year=start.year + month // 12, month=month % 12 + 1)


def first_period(partitions: Partitions) -> datetime:
    """Return the start of the first period: `start`, moved up to a period boundary if it is none."""
    kind, start = partitions.time, partitions.start_at
    if kind is None or start is None:
        raise ValueError("the source has no time partitions")
    origin = start if kind != "week" else _sunday(start)
    floor = floor_period(kind, start, origin)
    return floor if floor == start else next_period(kind, floor)


def _sunday(at: datetime) -> datetime:
    # Dagster's weekly partitions begin on Sunday unless told otherwise.
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return day - timedelta(days=(day.weekday() + 1) % 7)


def time_keys(partitions: Partitions, now: datetime, first: str | None = None) -> list[str]:
    """Return the keys of all periods that are over at `now`, plus `end_offset`, oldest first.

    `first` is the key to begin with, in place of the first there is.
    """
    kind, origin = _kind(partitions), first_period(partitions)
    at = origin if first is None else max(origin, _start(kind, first))
    return _keys(kind, at, _end(partitions, kind, now, origin))


def _kind(partitions: Partitions) -> str:
    if partitions.time is None:
        raise ValueError("the source has no time partitions")
    return partitions.time


def _start(kind: str, key: str) -> datetime:
    return datetime.strptime(key, key_format(kind)).replace(tzinfo=timezone.utc)


def _end(partitions: Partitions, kind: str, now: datetime, origin: datetime) -> datetime:
    return next_period(kind, floor_period(kind, now, origin), partitions.end_offset)


def _keys(kind: str, at: datetime, end: datetime) -> list[str]:
    keys = []
    while at < end:
        keys.append(at.strftime(key_format(kind)))
        at = next_period(kind, at)
    return keys


def partition_keys(spec: SourceSpec, now: datetime, dynamic: Sequence[str] = ()) -> list[str]:
    """Return every key the source has at `now`, oldest first or as declared; [] without partitions.

    `dynamic` are the keys that were added to a dynamic dimension; nobody but Dagster knows them.
    """
    partitions = spec.partitions
    if partitions is None:
        return []
    if partitions.dynamic:
        return list(dynamic)
    if partitions.time is None:
        return list(partitions.static[partitions.dimension or ""])
    return _crossed(partitions, time_keys(partitions, now))


def due_keys(spec: SourceSpec, now: datetime, dynamic: Sequence[str] = ()) -> list[str]:
    """Return the keys a tick refreshes: all static or dynamic ones, times the newest period and its look-back."""
    partitions = spec.partitions
    if partitions is None or partitions.time is None:
        return partition_keys(spec, now, dynamic)
    return _crossed(partitions, newest_periods(partitions, now))


def newest_periods(partitions: Partitions, now: datetime) -> list[str]:
    """Return the time keys a tick at `now` asks for: the newest and its look-back, oldest first."""
    kind, origin, lookback = _kind(partitions), first_period(partitions), partitions.lookback
    end = _end(partitions, kind, now, origin)
    # Counted back from the end: an hourly source of ten years has ninety thousand keys.
    start = next_period(kind, end, -(lookback + 1 if isinstance(lookback, int) else 1))
    return _keys(kind, max(origin, start), end)


def available_at(partitions: Partitions, key: str) -> datetime:
    """Return when a time key comes into being: at the end of its period, or `end_offset` periods before.

    Where the source says how long a period stays unpublished, not before that either.
    """
    kind = _kind(partitions)
    start = _start(kind, split_key(key)[0])
    patience = partitions.unpublished_for or timedelta(0)
    return max(next_period(kind, start, 1 - partitions.end_offset), start + patience)


def _crossed(partitions: Partitions, times: Sequence[str]) -> list[str]:
    if not partitions.dimension:
        return list(times)
    return [f"{time}|{key}" for time in times for key in partitions.static[partitions.dimension]]


def split_key(key: str) -> tuple[str, str | None]:
    """Return the time key and the static key of a two-dimensional key; the second is None with one dimension."""
    first, bar, second = key.partition("|")
    return first, second if bar else None


def window_of(spec: SourceSpec, key: str | None) -> Window:
    """Return the window of one partition key; None asks for the whole source.

    Raises:
        UnknownPartition: the key has not the form of this source's keys.
    """
    partitions = spec.partitions
    names = {name: value for name, value in spec.params.items() if isinstance(value, str | int | float)}
    if partitions is None and key is not None:
        raise UnknownPartition(f"{spec.name} has no partitions, so {key!r} is none of them")
    if partitions is None or key is None:
        return Window(names=names)
    dimension = partitions.dimension
    if spec.request.drop and not _is_day(key):
        raise UnknownPartition(f"{spec.name}: {key!r} is no day of arrival; keys look like 2026-01-31")
    if partitions.time is None:
        return Window(key, start=partitions.start_at, names={**names, dimension or "": key})
    time, other = split_key(key)
    if dimension is None:
        return _time_window(spec, partitions, key, names)
    known = partitions.static[dimension]
    if other not in known:
        example = f"{first_period(partitions):{key_format(partitions.time)}}|{known[0]}"
        raise UnknownPartition(f"{spec.name}: {key!r} names no {dimension} that is declared; keys look like {example}")
    return replace(_time_window(spec, partitions, time, {**names, dimension: other}), partition=key)


def _is_day(key: str) -> bool:
    try:
        return date.fromisoformat(key).isoformat() == key
    except ValueError:
        return False


def since(spec: SourceSpec, window: Window, cursor: str | None) -> Window:
    """Narrow a static partition's window to `lookback` before the newest accepted row.

    Args:
        spec: the source; others than those with a duration as lookback are left as they are.
        window: the whole window.
        cursor: newest accepted value of `partitions.column` as ISO text, None before the first load.
    """
    lookback = spec.partitions.lookback if spec.partitions else 0
    if not cursor or not isinstance(lookback, timedelta) or window.end is not None:
        return window
    newest = datetime.fromisoformat(cursor)
    start = newest.replace(tzinfo=newest.tzinfo or timezone.utc) - lookback
    return replace(window, start=max(start, window.start) if window.start else start)


def _time_window(spec: SourceSpec, partitions: Partitions, key: str, names: dict[str, Any]) -> Window:
    kind = partitions.time or "day"
    pattern = key_format(kind)
    example = first_period(partitions).strftime(pattern)
    try:
        start = datetime.strptime(key, pattern).replace(tzinfo=timezone.utc)
    except ValueError as error:
        raise UnknownPartition(f"{spec.name}: {key!r} is no {kind} partition; keys look like {example}") from error
    if start.strftime(pattern) != key:
        raise UnknownPartition(f"{spec.name}: {key!r} is no {kind} partition; keys look like {example}")
    if floor_period(kind, start, first_period(partitions)) != start:
        raise UnknownPartition(f"{spec.name}: {key!r} is not the beginning of a {kind}; keys look like {example}")
    if start < first_period(partitions):
        raise UnknownPartition(f"{spec.name}: {key!r} lies before the first partition, {example}")
    try:
        return Window(key, start=start, end=next_period(kind, start), names=names)
    except (OverflowError, ValueError) as error:
        raise UnknownPartition(f"{spec.name}: {key!r} has no end in any year we can count") from error


def fill(text: str, window: Window, where: str) -> str:
    """Put the window's fields into `text`; `{start:%Y}` formats an instant. Raises UpstreamRefused."""
    fields = {k: _Instant(v) if isinstance(v, datetime) else v for k, v in window.fields.items()}
    try:
        return text.format(**fields)
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        problem: RefreshError = UpstreamRefused(
            f"{where} {text!r} names what this refresh has not ({error})",
            expected=f"one of {', '.join('{' + k + '}' for k in fields)}",
            todo="Correct the YAML, or name a partition.",
        )
        raise problem from error


class _Instant:
    """An instant in a template: a date by default, anything else by its strftime format."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def __format__(self, spec: str) -> str:
        return self.at.strftime(spec or ("%Y-%m-%d" if self.at.time() == datetime.min.time() else "%Y-%m-%dT%H:%M:%SZ"))
