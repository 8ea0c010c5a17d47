"""Where a source's bytes come from, and how they become rows of text."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from refresh_pipelines.spec.base import (
    TABLE_NAME,
    Duration,
    Model,
    Rate,
    Scalar,
    Size,
    as_duration,
)
from refresh_pipelines.spec.chosen import Where
from refresh_pipelines.spec.drop import Drop
from refresh_pipelines.spec.layout import Layout
from refresh_pipelines.spec.signal import Signal
from refresh_pipelines.units import format_duration


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


class Each(Model):
    """One refresh as several requests, one for each value; `{name}` stands for it. Written `{name: [values]}`."""

    name: str
    values: tuple[str, ...] = Field(min_length=1)
    on_error: Literal["fail", "keep_rest"] = Field(
        "fail", description="keep_rest: load what came, and call the refresh partial"
    )


def as_each(value: Any) -> Any:
    """Read `{series_id: [a, b], on_error: fail}`; raise ValueError unless it names one list of different texts."""
    if not isinstance(value, dict):
        return value
    lists = {name: values for name, values in value.items() if name != "on_error"}
    if len(lists) != 1:
        raise ValueError("each needs exactly one name with its values (for instance series_id: [A, B])")
    name, values = next(iter(lists.items()))
    if not TABLE_NAME.fullmatch(name):
        raise ValueError(f"the name {name} must match {TABLE_NAME.pattern}")
    if not isinstance(values, list) or not values or not all(isinstance(item, str) for item in values):
        raise ValueError(f"{name} must be a list of texts (put numbers in quotes)")
    if len(set(values)) != len(values) or not all(item.strip() for item in values):
        raise ValueError(f"{name} names a value twice, or an empty one")
    return {"name": name, "values": tuple(values), **{key: value[key] for key in value if key == "on_error"}}


def as_verify_every(value: Any) -> Any:
    """Read a number of refreshes, 1 or more, or a duration; raise ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int):
        return as_duration(value)
    if value < 1:
        raise ValueError("verify_every counts refreshes: 1 or more (or write a duration: 7d)")
    return value


_EACH_SCHEMA = {
    "type": "object",
    "properties": {"on_error": {"enum": ["fail", "keep_rest"], "default": "fail"}},
    "additionalProperties": {"type": "array", "items": {"type": "string"}, "minItems": 1},
    "minProperties": 1,
    "maxProperties": 2,
}
_VERIFY_SCHEMA = {
    "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": r"^(\d+[smhdw])+$"}],
    "default": 10,
}
VerifyEvery = Annotated[
    int | timedelta,
    BeforeValidator(as_verify_every),
    PlainSerializer(lambda value: value if isinstance(value, int) else format_duration(value)),
    WithJsonSchema(_VERIFY_SCHEMA),
]


class Paging(Model):
    """How an answer in several pages is read. Paths are dotted, into the JSON document of a page.

    page and offset count; cursor takes the next page's mark out of the last page; link its whole
    address, from the document or from the header Link (rel=next).
    """

    kind: Literal["page", "offset", "cursor", "link"]
    param: str | None = Field(None, description="query parameter that says which page; none with link")
    first: int | None = Field(None, ge=0, description="first page (default 1) or offset (default 0)")
    size: int | None = Field(None, ge=1, description="rows of a full page; a shorter one is the last")
    size_param: str | None = Field(None, description="query parameter that asks for `size` rows")
    pages: str | None = Field(None, description="page: path of the number of pages")
    total: str | None = Field(None, description="path of the number of rows of all pages, which must come together")
    next: str | None = Field(None, description="cursor, link: path of the next mark or address")
    max_pages: int = Field(1000, ge=1, description="more than these are taken for a loop")

    @model_validator(mode="after")
    def _enough(self) -> Paging:
        if (self.param is None) != (self.kind == "link"):
            raise ValueError("paging.param goes with page, offset and cursor, and is needed there")
        if self.kind == "offset" and self.size is None:
            raise ValueError("paging of kind offset needs size, the rows of a full page")
        if self.kind == "page" and self.size is None and self.pages is None:
            raise ValueError("paging of kind page needs pages or size, to know the last page")
        if self.kind == "cursor" and self.next is None:
            raise ValueError("paging of kind cursor needs next, the path of the next mark")
        for name, kinds in (("pages", "page"), ("first", "page offset"), ("next", "cursor link")):
            if getattr(self, name) is not None and self.kind not in kinds.split():
                raise ValueError(f"paging.{name} does not go with kind {self.kind}")
        if self.size_param and self.size is None:
            raise ValueError("paging.size_param needs size")
        return self


class Request(Model):
    """One HTTP request. Address, params and headers may hold {partition} {start} {end}, params and partition names."""

    url: str | None = None
    urls: tuple[str, ...] = Field((), description="tried in order: the next one when the answer is 'not here'")
    drop: Drop | None = Field(None, description="files that arrive in a folder, in place of an address")
    signal: Signal | None = Field(
        None, description="what is asked first, and tells whether the payload is another one than last time"
    )
    method: Literal["GET", "POST"] = "GET"
    params: dict[str, Scalar] = Field(default_factory=dict)
    headers: dict[str, str] = Field(default_factory=dict)
    body: dict[str, Any] | str | None = None
    timeout: Duration = timedelta(seconds=60)
    max_bytes: Size = 200_000_000
    max_unpacked: Size = Field(4_000_000_000, description="most bytes an archive may unpack to")
    rate: Rate | None = None
    allow_private: bool = False
    auth: Auth | None = None
    retry_on: tuple[str, ...] = Field(
        (), description="texts in a 4xx answer or a web page that may pass if asked again slowly"
    )
    retry_after: Literal["s", "ms"] = Field("s", description="what a number in the header Retry-After counts")
    stale: dict[str, str] = Field(
        default_factory=dict, description="answer headers and values by which the upstream says: not current, ask later"
    )
    verify_every: VerifyEvery = Field(
        10, description="every so many refreshes, or after so long, the answer 304 is not believed but verified"
    )
    each: Annotated[Each, BeforeValidator(as_each), WithJsonSchema(_EACH_SCHEMA)] | None = None
    paging: Paging | None = None
    span: int = Field(
        1, ge=1, le=1000, description="neighbouring time partitions that one request from {start} to {end} may serve"
    )

    @model_validator(mode="after")
    def _one_address(self) -> Request:
        listed = self.signal is not None and self.signal.address is not None
        if listed and any((self.url, self.urls, self.drop)):
            raise ValueError("request.signal.address stands in place of url, urls and drop")
        if not listed and sum(map(bool, (self.url, self.urls, self.drop))) != 1:
            raise ValueError("request needs exactly one of url, urls and drop")
        return self

    @property
    def candidates(self) -> tuple[str, ...]:
        """Addresses to try, in order; of a drop its folder, of a payload that a catalogue lists the catalogue."""
        if self.drop:
            return (self.drop.url,)
        if self.signal and self.signal.address:
            return (self.signal.url,)
        return (self.url,) if self.url else self.urls


class Format(Model):
    """How the payload's bytes become rows of text."""

    kind: Literal["csv", "json", "jsonl", "parquet", "xlsx", "detect"]
    of: tuple[Literal["json", "jsonl", "csv", "parquet", "xlsx"], ...] = Field(
        (), description="for kind detect: what a payload may be; its bytes decide, not its name"
    )
    archive: Literal["zip", "gzip"] | None = None
    member: str = Field("*", description="glob for the one archive member that holds the rows")
    encoding: str = "utf-8"
    fallback: str | None = Field(None, description="encoding for single values that are not valid `encoding`; counted")
    delimiter: str = Field(",", min_length=1, max_length=1)
    quote: str = Field('"', max_length=1)
    fields: tuple[str, ...] = Field(
        (), description="names by position of a CSV without a header row; the count is exact"
    )
    skip_lines: int = Field(0, ge=0)
    repeated_header: Literal["refuse", "skip"] = Field(
        "refuse", description="a CSV's header row that comes again among the rows, as joined files have it"
    )
    sheet: str | None = Field(None, description="XLSX: glob for the one sheet; default: the only one that is shown")
    layouts: tuple[Layout, ...] = Field((), description="tables for people in XLSX or CSV, and what their cells are")
    ignore_sheets: tuple[str, ...] = Field((), description="globs of shown sheets that hold no table of `layouts`")
    zones: dict[str, dict[str, tuple[str, ...]]] = Field(
        default_factory=dict, description="for layouts: level, code and names of every zone that has a code"
    )
    rows: str = Field("", description="dotted path to the list of rows in a JSON document; empty: the document itself")
    where: Where = Field(
        default_factory=dict, description="field: the texts it may have; rows with others are passed over unread"
    )
    error: str | None = Field(None, description="dotted path of a member whose presence means the upstream refused")
    document: dict[str, str] = Field(
        default_factory=dict, description="JSON: fields of the document given to each row, name: dotted path"
    )
    published: str | None = Field(
        None, description="JSON: dotted path of the day or time of publication, in place of Last-Modified"
    )

    @model_validator(mode="after")
    def _fits_kind(self) -> Format:
        kinds = set(self.of) if self.kind == "detect" else {self.kind}
        if (self.kind == "detect") != bool(self.of):
            raise ValueError("of lists what a payload may be, and goes with kind detect, which needs it")
        if self.kind in ("xlsx", "parquet", "detect") and self.archive == "zip":
            raise ValueError(f"archive: zip does not go with kind {self.kind}")
        if self.repeated_header == "skip" and "csv" not in kinds:
            raise ValueError("repeated_header goes with CSV")
        if (self.sheet or self.ignore_sheets) and "xlsx" not in kinds:
            raise ValueError("sheet and ignore_sheets go with XLSX")
        if self.where and (self.layouts or "xlsx" in kinds):
            raise ValueError("where does not go with XLSX and layouts")
        if self.layouts and not kinds <= {"xlsx", "csv"}:
            raise ValueError("layouts go with XLSX and CSV only")
        if (self.zones or self.ignore_sheets) and not self.layouts:
            raise ValueError("zones and ignore_sheets go with layouts")
        if self.layouts and (self.sheet or self.fields or self.skip_lines):
            raise ValueError("with layouts, each of them says where its header is: leave sheet, fields, skip_lines out")
        return self


def as_format(value: Any) -> Any:
    """Read `format: csv` as `format: {kind: csv}`."""
    return {"kind": value} if isinstance(value, str) else value
