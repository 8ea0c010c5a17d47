"""When a source is due, in which pieces, and how patient we are with it."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from refresh_pipelines.spec.base import TABLE_NAME, Duration, Model, as_duration


class Schedule(Model):
    """When a source is due: a frequency with its details, or a cron expression."""

    frequency: Literal["hourly", "daily", "weekly", "monthly", "quarterly", "annual", "on_event"] | None = None
    cron: str | None = None
    day: str | int | None = Field(None, description="weekday name for weekly; day of the month for monthly and rarer")
    month: int | None = Field(None, ge=1, le=12, description="month of an annual schedule")
    time: str = Field("00:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    timezone: str = "UTC"
    misfire_grace: Duration = timedelta(minutes=30)
    catch_up: Literal["none", "latest", "all"] | None = None
    overlap: Literal["skip", "queue", "cancel"] = "skip"
    expire: Duration = timedelta(hours=1)
    jitter: Duration = timedelta(0)
    batch: str | None = Field(
        None,
        pattern=r"^[a-z][a-z0-9_]{0,39}$",
        description="sources that name the same batch and are due together share one run, a step each",
    )

    @model_validator(mode="after")
    def _one_rhythm(self) -> Schedule:
        if self.frequency and self.cron:
            raise ValueError("schedule takes frequency or cron, not both")
        return self


def unsafe_key(key: str) -> str | None:
    """Say why a text cannot be a partition's key, None if it can: Dagster reads some characters as its own."""
    if not key or key != key.strip() or any(char in key for char in "|,[]\n") or "..." in key:
        return f"partition key {key!r} must not be empty, padded, or hold | , [ ] or ..."
    return None


class Partitions(Model):
    """The pieces a source is refreshed in. Keys are UTC; two dimensions are date and p_<name>."""

    time: Literal["hour", "day", "week", "month", "quarter", "year"] | None = None
    start: date | datetime | None = Field(None, description="first period; for static partitions the first {start}")
    end_offset: int = Field(0, ge=0, le=100, description="1: the period that is still running counts as a partition")
    lookback: int | Duration = Field(
        0, description="periods read again; a duration before the newest row for static ones"
    )
    column: str | None = Field(None, description="column whose value says which period a row belongs to")
    outside: Literal["refuse", "drop"] = Field("refuse", description="what to do with single rows of other periods")
    unpublished_for: Duration | None = Field(
        None, description="this long after a period begins, rows of an earlier one or 404 mean 'not yet'"
    )
    initial: Literal["newest", "all"] = "newest"
    static: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    dynamic: str | None = Field(
        None,
        pattern=r"^[a-z][a-z0-9_]{0,39}$",
        description="name of a dimension whose keys are added while it runs, by `refresh run --partition` or the UI",
    )

    @field_validator("lookback", mode="before")
    @classmethod
    def _count_or_duration(cls, value: Any) -> Any:
        return as_duration(value) if isinstance(value, str) else value

    @field_validator("static")
    @classmethod
    def _safe_keys(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if len(value) > 1:
            raise ValueError("one static dimension at most")
        for name, keys in value.items():
            if not TABLE_NAME.fullmatch(name) or not keys or len(set(keys)) != len(keys):
                raise ValueError(f"static dimension {name!r} needs a plain name and a list of different keys")
            problem = next(filter(None, map(unsafe_key, keys)), None)
            if problem:
                raise ValueError(problem)
        return value

    @model_validator(mode="after")
    def _whole(self) -> Partitions:
        if self.time and self.start is None:
            raise ValueError("time partitions need a start")
        if self.time and not isinstance(self.lookback, int):
            raise ValueError("lookback of time partitions is a number of periods")
        if self.dynamic and (self.time or self.static):
            raise ValueError("dynamic partitions go with neither time nor static ones")
        if not (self.time or self.static or self.dynamic):
            raise ValueError("partitions need time, static or dynamic")
        return self

    @property
    def start_at(self) -> datetime | None:
        """First instant, UTC-aware."""
        if self.start is None or isinstance(self.start, datetime):
            return self.start and self.start.replace(tzinfo=self.start.tzinfo or timezone.utc).astimezone(timezone.utc)
        return datetime(self.start.year, self.start.month, self.start.day, tzinfo=timezone.utc)

    @property
    def dimension(self) -> str | None:
        """Name of the static or dynamic dimension, if there is one."""
        return self.dynamic or next(iter(self.static), None)


class Freshness(Model):
    """Allowed age of the last good refresh (`checked`) and of the last change (`changed`)."""

    checked: Duration | None = None
    changed: Duration | None = None


class Retry(Model):
    """Tries of one refresh. Waits inside a run stay short; see `waits`."""

    attempts: int = Field(3, ge=1, le=10)
    delay: Duration = timedelta(seconds=20)
    max_delay: Duration = timedelta(hours=1)


class Breaker(Model):
    """When to stop knocking at a failing upstream."""

    failures: int = Field(5, ge=1)
    probe: Duration = timedelta(hours=1)
    probe_max: Duration = timedelta(days=1)
