"""Where a source's bytes come from, and how they become rows of text."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from pydantic import Field, model_validator

from refresh_pipelines.spec.base import Duration, Model, Rate, Scalar, Size


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
    """One HTTP request. Address, params and headers may hold {partition} {start} {end}, params and partition names."""

    url: str | None = None
    urls: tuple[str, ...] = Field((), description="tried in order: the next one when the answer is 'not here'")
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


def as_format(value: Any) -> Any:
    """Read `format: csv` as `format: {kind: csv}`."""
    return {"kind": value} if isinstance(value, str) else value
