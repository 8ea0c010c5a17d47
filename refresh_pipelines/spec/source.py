"""A whole source: what a person writes (`SourceYaml`), and the same with its place (`SourceSpec`)."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from refresh_pipelines.spec.archive import Archive
from refresh_pipelines.spec.base import Duration, Model
from refresh_pipelines.spec.derived import Derive, Requires
from refresh_pipelines.spec.request import Format, Request, as_format
from refresh_pipelines.spec.table import Column, Load
from refresh_pipelines.spec.timing import Breaker, Freshness, Partitions, Retry, Schedule

# Raise when the meaning of parsing or casting changes: every source is then read anew once.
PARSE_REVISION = 1
DEFAULT_TIME_LIMIT = timedelta(hours=1)


def _as_share(value: Any) -> Any:
    return "off" if value is False else value  # as YAML 1.1 reads a bare off


Share = Annotated[str, Field(pattern=r"^(\d{1,4}%|off)$"), BeforeValidator(_as_share)]


class Expect(Model):
    """What a plausible payload looks like."""

    min_rows: int = Field(1, ge=0)
    present: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="values of a column without which a payload is not whole"
    )
    keep: dict[str, Annotated[str, Field(pattern=r"^\d{1,3}%$")]] = Field(
        default_factory=dict, description="share of a column's values in the table that a payload may lack: 0%"
    )
    change: Share | None = Field(None, description="how many fewer or more rows than last time are no surprise")
    bytes: Share | None = Field(None, description="how much smaller or larger than last time a payload may be")
    shrink: Share | None = Field(None, description="share of the table's rows that a payload may lack anew")
    updated: Share | None = Field(None, description="share of the known rows that may have other values")
    deleted: Share | None = Field(None, description="share of the partition's rows that may be deleted")
    nulls: Share | None = Field(None, description="by how much the share of empty values of a column may rise")
    holes: Share | None = Field(None, description="share of the known dates or times inside a payload that may be gone")


class Alerts(Model):
    """Who is told, and how often."""

    after: int = Field(1, ge=1)
    remind: Duration = timedelta(hours=24)
    route: str = Field("default", pattern=r"^[a-z][a-z0-9_]*$", description="its webhook is REFRESH_WEBHOOK_<ROUTE>")

    @field_validator("route")
    @classmethod
    def _names_a_webhook(cls, value: str) -> str:
        if value in ("url", "secret", "format") or value.endswith("_format"):
            raise ValueError(f"a route cannot be called {value}: REFRESH_WEBHOOK_{value.upper()} is a setting")
        return value


def _as_request(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    # One that was read already, or stands for none, is not asked again for its address.
    return value if isinstance(value, Request) else read(value)


class SourceYaml(Model):
    """One source: one public dataset, refreshed as one asset into one table."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["request"]}, {"required": ["derive"]}]})

    description: str = Field(min_length=1)
    owner: str | None = Field(None, description="an e-mail address or team:name")
    licence: str | None = None
    homepage: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    tenant: str | None = None
    enabled: bool = True
    priority: float | None = Field(
        None, description="where a curated table takes its value from: the source with the highest one"
    )
    aliases: tuple[str, ...] = ()
    table: str | None = Field(None, pattern=r"^[a-z][a-z0-9_]{0,39}$")
    params: dict[str, Any] = Field(default_factory=dict)
    requires: tuple[Requires, ...] = Field((), description="sources that must have reported first")
    # A derived source asks for nothing; one request without an address spares all others the question.
    request: Annotated[Request, WrapValidator(_as_request)] = Field(default_factory=Request.model_construct)
    derive: Derive | None = Field(None, description="in place of request and format: made from the required sources")
    format: Annotated[Format, BeforeValidator(as_format)] | None = None
    parser: str | None = Field(None, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    columns: dict[str, Column] = Field(min_length=1)
    merge_key: tuple[str, ...] = Field(min_length=1)
    load: Load = Load()
    schedule: Schedule | None = None
    partitions: Partitions | None = None
    time_limit: Duration = Field(DEFAULT_TIME_LIMIT, description="what takes longer to refresh one partition is ended")
    freshness: Freshness = Freshness()
    retry: Retry = Retry()
    breaker: Breaker = Breaker()
    expect: Expect = Expect()
    alerts: Alerts = Alerts()
    archive: Archive = Archive()

    @model_validator(mode="after")
    def _readable(self) -> SourceYaml:
        if self.derive is not None:
            return self  # `rules.gates` says what does not go with it
        if not self.request.candidates:
            raise ValueError("request is missing")
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
    # Of the sources that `derive.reconcile` chooses from, by stem; the catalogue fills it in from their files.
    priorities: dict[str, float] = Field(default_factory=dict)

    @property
    def name(self) -> str:
        """`<group>/<source>`."""
        return f"{self.group}/{self.source}"

    @property
    def derived(self) -> bool:
        """Whether it is made from other sources in the warehouse, and asks nobody."""
        return self.derive is not None

    @property
    def replaces(self) -> bool:
        """Whether rows that are no longer given leave the table; a query's result is always the whole."""
        return self.derived or self.load.mode == "replace_partition"

    @property
    def file_column(self) -> str | None:
        """Name of the column that says from which dropped file a row is (`from: "{file}"`), if there is one."""
        if self.request.drop is None:
            return None
        return next((name for name, column in self.columns.items() if column.source == "{file}"), None)

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
        for name, column in parts["columns"].items():
            column.pop("description")
            for key in self.columns[name].undeclared:
                column.pop(key)
        if not self.load.ignore:
            parts["load"].pop("ignore")
        # Lists stand for keys; of the rest a parser may read any, texts name theirs.
        texts = json.dumps([parts["request"], parts["columns"], self.format.where if self.format else {}])
        parts["params"] = {
            name: value
            for name, value in parts["params"].items()
            if not isinstance(value, list) and (self.parser or re.search(rf"\{{{name}\b", texts))
        }
        for key in ("timeout", "max_bytes", "max_unpacked", "rate", "retry_on", "retry_after", "stale", "span"):
            parts["request"].pop(key)
        parts["request"].pop("verify_every")
        parts["request"]["drop"] = self._drop_parts()
        if parts["request"]["drop"] is None:
            parts["request"].pop("drop")  # the hash that sources had before there were drops
        self._forget_unsaid(parts)
        for key in ("start", "end_offset", "lookback", "initial", "static") if parts["partitions"] else ():
            parts["partitions"].pop(key)
        if self.derive is not None:
            chosen = self.derive.reconcile
            said = [chosen.model_dump(mode="json"), self.priorities] if chosen else self.derive.query
            parts["derive"] = said
        if self.archive.redact:
            parts["redact"] = sorted(self.archive.redact)
        text = json.dumps([PARSE_REVISION, self.raw_table, parts], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _forget_unsaid(self, parts: dict[str, Any]) -> None:
        """Take out keys that came later than others and say nothing here: they change no source's hash."""
        if self.request.signal is None:
            parts["request"].pop("signal", None)
        if self.format is not None and not self.format.where:
            parts["format"].pop("where")

    def _drop_parts(self) -> dict[str, Any] | None:
        """Return what of a drop decides the rows: which files it takes, and neither when nor how many at once."""
        drop = self.request.drop
        return drop.model_dump(mode="json", include={"url", "pattern"}) if drop else None
