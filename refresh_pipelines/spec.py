"""What one source declares: the YAML's grammar as frozen models. No reading of files, no behaviour.

`SourceYaml` is what a person writes; `SourceSpec` adds what the file's place says (group, name).
Rules that need only one value live here as validators; rules across files are in `catalogue`.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import date, datetime, timedelta, timezone
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from refresh_pipelines.units import format_duration, parse_duration, parse_rate, parse_size

TABLE_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
GROUPS = ("worldenergy", "meteo", "benin", "commodities", "autoload")
LOAD_COLUMNS = ("_source", "_partition", "_first_seen_at", "_updated_at", "_run_id")
# Raise when the meaning of parsing or casting changes: every source is then read anew once.
PARSE_REVISION = 1
# Of strptime, what means the same on every platform and comes out again as it went in.
DIRECTIVES = "YmdHMSyjbBaApI%"

LONGEST = timedelta(days=3650)


def _as_duration(value: object) -> timedelta:
    # Arithmetic on durations stays far from what timedelta can hold.
    try:
        duration = parse_duration(value)
    except OverflowError:
        duration = timedelta.max
    if duration > LONGEST:
        raise ValueError(f"a duration of more than {format_duration(LONGEST)}")
    return duration


Duration = Annotated[
    timedelta,
    BeforeValidator(_as_duration),
    PlainSerializer(format_duration),
    WithJsonSchema({"type": "string", "pattern": r"^(\d+[smhdw])+$"}),
]
Size = Annotated[
    int, BeforeValidator(parse_size), WithJsonSchema({"type": "string", "pattern": r"^\d+\s*(B|KB|MB|GB)$"})
]
Rate = Annotated[float, BeforeValidator(parse_rate), WithJsonSchema({"type": "string", "pattern": r"^\d+/[smhd]$"})]
Scalar = str | int | float | bool


class Model(BaseModel):
    """Frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Auth(Model):
    """Where a credential goes. `env` is the name of a variable, never a value."""

    env: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$")
    query: str | None = None
    header: str | None = None
    prefix: str = Field("", description="text before the value in a header, for instance 'Bearer '")

    @model_validator(mode="after")
    def _one_place(self) -> Auth:
        if (self.query is None) == (self.header is None):
            raise ValueError("auth needs exactly one of query and header")
        return self


class Request(Model):
    """One HTTP request. Text may hold the fields {partition} {start} {end}, params and partition names."""

    url: str | None = None
    urls: tuple[str, ...] = Field((), description="tried in order: the next one when the answer is 'not here'")
    method: Literal["GET", "POST"] = "GET"
    params: dict[str, Scalar] = {}
    headers: dict[str, str] = {}
    body: dict[str, Any] | str | None = None
    timeout: Duration = timedelta(seconds=60)
    max_bytes: Size = 200_000_000
    max_unpacked: Size = Field(4_000_000_000, description="most bytes an archive may unpack to")
    rate: Rate | None = None
    allow_private: bool = False
    auth: Auth | None = None
    retry_on: tuple[str, ...] = Field((), description="texts in a 4xx answer that may pass if asked again slowly")
    each: dict[str, Any] | None = None
    paging: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one_address(self) -> Request:
        if bool(self.url) == bool(self.urls):
            raise ValueError("request needs exactly one of url and urls")
        return self

    @property
    def candidates(self) -> tuple[str, ...]:
        """Addresses to try, in order."""
        return (self.url,) if self.url else self.urls


class Format(Model):
    """How the payload's bytes become rows of text."""

    kind: Literal["csv", "json"]
    archive: Literal["zip"] | None = None
    member: str = Field("*", description="glob for the one archive member that holds the rows")
    encoding: str = "utf-8"
    fallback: str | None = Field(None, description="encoding for single values that are not valid `encoding`; counted")
    delimiter: str = Field(",", min_length=1, max_length=1)
    quote: str = Field('"', max_length=1)
    fields: tuple[str, ...] = Field(
        (), description="names by position of a CSV without a header row; the count is exact"
    )
    skip_lines: int = Field(0, ge=0)
    rows: str = Field("", description="dotted path to the list of rows in a JSON document; empty: the document itself")
    error: str | None = Field(None, description="dotted path of a member whose presence means the upstream refused")


def _as_format(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


class Column(Model):
    """One column of the raw table, and where its text comes from."""

    type: str = Field(
        pattern=r"^(text|int|bigint|double|bool|date|timestamp|timestamptz|json|decimal\(\d{1,2},\s*\d{1,2}\))$"
    )
    source: str | None = Field(
        None,
        validation_alias=AliasChoices("from", "source"),
        serialization_alias="from",
        description=(
            "name of the field in the payload, dotted path in JSON, or '{partition name}'; default: the column's name"
        ),
    )
    format: str | None = Field(None, description="strptime format of a date or timestamp; default ISO 8601")
    missing: tuple[str, ...] = Field(("",), description="texts that mean 'no value'; the empty text always does")
    strip: bool = Field(True, description="remove white space around the text")
    nullable: bool = True
    unit: str | None = None
    min: float | None = None
    max: float | None = None
    description: str = ""

    @model_validator(mode="after")
    def _fits_type(self) -> Column:
        if self.format is not None:
            self._check_format(self.format)
        if (self.min is not None or self.max is not None) and not self.type.startswith(("int", "big", "dou", "dec")):
            raise ValueError(f"min and max go with numbers, not with {self.type}")
        return self

    def _check_format(self, pattern: str) -> None:
        if self.type == "timestamptz":
            raise ValueError(
                "format cannot be used with timestamptz, because it reads no zone: leave it out for ISO 8601 text with "
                "an offset, or declare a timestamp"
            )
        if self.type not in ("date", "timestamp"):
            raise ValueError(f"format goes with date and timestamp, not with {self.type}")
        used = re.findall(r"%(.?)", pattern, re.DOTALL)
        unknown = next((f"%{name}" for name in used if not name or name not in DIRECTIVES), None)
        if unknown or not used:
            known = " ".join(f"%{name}" for name in DIRECTIVES)
            raise ValueError(f"format {pattern!r} has {unknown or 'no field'}; it may hold {known}")

    @field_validator("type")
    @classmethod
    def _decimal_fits(cls, value: str) -> str:
        found = re.fullmatch(r"decimal\((\d+),\s*(\d+)\)", value)
        if found and not (1 <= int(found[1]) <= 38 and int(found[2]) <= int(found[1])):
            raise ValueError(f"{value}: decimal(p,s) needs 1 <= p <= 38 and s <= p")
        return value.replace(" ", "")


class Load(Model):
    """How accepted rows change the table."""

    mode: Literal["merge", "replace_partition", "snapshot", "append"] = "merge"
    duplicates: Literal["identical", "refuse"] = Field(
        "identical", description="rows with one merge key: collapse them if identical in every column, or refuse"
    )
    drift: Literal["evolve", "ignore", "freeze"] = "ignore"
    reject_share: float = Field(0, ge=0, le=1)
    history: bool = False
    volatile: tuple[str, ...] = Field((), description="columns whose change alone is no change")
    skip_missing: tuple[str, ...] = Field((), description="a row without a value in one of these columns is no row")


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

    @model_validator(mode="after")
    def _one_rhythm(self) -> Schedule:
        if self.frequency and self.cron:
            raise ValueError("schedule takes frequency or cron, not both")
        return self


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
    static: dict[str, tuple[str, ...]] = {}
    dynamic: str | None = None

    @field_validator("lookback", mode="before")
    @classmethod
    def _count_or_duration(cls, value: Any) -> Any:
        return _as_duration(value) if isinstance(value, str) else value

    @field_validator("static")
    @classmethod
    def _safe_keys(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if len(value) > 1:
            raise ValueError("one static dimension at most")
        for name, keys in value.items():
            if not TABLE_NAME.fullmatch(name) or not keys or len(set(keys)) != len(keys):
                raise ValueError(f"static dimension {name!r} needs a plain name and a list of different keys")
            bad = [k for k in keys if not k or k != k.strip() or any(c in k for c in "|,[]\n") or "..." in k]
            if bad:
                raise ValueError(f"partition key {bad[0]!r} must not be empty, padded, or hold | , [ ] or ...")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Partitions:
        if self.time and self.start is None:
            raise ValueError("time partitions need a start")
        if self.time and not isinstance(self.lookback, int):
            raise ValueError("lookback of time partitions is a number of periods")
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
        """Name of the static dimension, if there is one."""
        return next(iter(self.static), None)


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


class Expect(Model):
    """What a plausible payload looks like."""

    min_rows: int = Field(1, ge=0)
    change: str | None = Field(None, pattern=r"^\d{1,3}%$")


class Alerts(Model):
    """Who is told, and how often."""

    after: int = Field(1, ge=1)
    remind: Duration = timedelta(hours=24)
    route: str = Field("default", pattern=r"^[a-z][a-z0-9_]*$")


class SourceYaml(Model):
    """One source: one public dataset, refreshed as one asset into one table."""

    description: str = Field(min_length=1)
    owner: str | None = Field(None, description="an e-mail address or team:name")
    licence: str | None = None
    homepage: str | None = None
    tags: dict[str, str] = {}
    tenant: str | None = None
    enabled: bool = True
    priority: float | None = None
    aliases: tuple[str, ...] = ()
    table: str | None = Field(None, pattern=r"^[a-z][a-z0-9_]{0,39}$")
    params: dict[str, Any] = {}
    request: Request
    format: Annotated[Format, BeforeValidator(_as_format)] | None = None
    parser: str | None = Field(None, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    columns: dict[str, Column] = Field(min_length=1)
    merge_key: tuple[str, ...] = Field(min_length=1)
    load: Load = Load()
    schedule: Schedule | None = None
    partitions: Partitions | None = None
    freshness: Freshness = Freshness()
    retry: Retry = Retry()
    breaker: Breaker = Breaker()
    expect: Expect = Expect()
    alerts: Alerts = Alerts()

    @model_validator(mode="after")
    def _readable(self) -> SourceYaml:
        if (self.format is None) == (self.parser is None):
            raise ValueError("a source needs exactly one of format and parser")
        if self.enabled and not (self.schedule and (self.schedule.cron or self.schedule.frequency)):
            raise ValueError("an enabled source needs schedule.frequency or schedule.cron")
        return self


class SourceSpec(SourceYaml):
    """A declared source with its place: `group` and `source` come from the folder and the file stem."""

    group: str
    source: str
    file: str

    @property
    def name(self) -> str:
        """`<group>/<source>`."""
        return f"{self.group}/{self.source}"

    @property
    def raw_table(self) -> str:
        """Name of the table in schema raw."""
        return self.table or self.source

    @cached_property
    def spec_hash(self) -> str:
        """Hash of everything that decides which rows a payload gives; a new one reads the source anew."""
        parts = self.model_dump(
            mode="json", include={"request", "format", "parser", "columns", "merge_key", "load", "partitions", "params"}
        )
        for column in parts["columns"].values():
            column.pop("description")
        for key in ("timeout", "max_bytes", "max_unpacked", "rate", "retry_on"):
            parts["request"].pop(key)
        for key in ("start", "end_offset", "lookback", "initial", "static") if parts["partitions"] else ():
            parts["partitions"].pop(key)
        text = json.dumps([PARSE_REVISION, self.raw_table, parts], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
