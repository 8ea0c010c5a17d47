"""Files that somebody puts into a folder, in place of an address that is asked."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from refresh_pipelines.spec.base import Duration, Model, Scalar, Size


def as_patterns(value: Any) -> Any:
    """Read `pattern: "*.csv"` as a list of one."""
    return (value,) if isinstance(value, str) else value


_PATTERNS_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}


class Drop(Model):
    """A folder in which files arrive. The refresh of a day loads the files that arrived on it, each once."""

    url: str = Field(
        min_length=1, description="folder below the root, or an fsspec URL such as s3://bucket/prefix; may name params"
    )
    pattern: Annotated[
        tuple[str, ...],
        BeforeValidator(as_patterns),
        WithJsonSchema(_PATTERNS_SCHEMA),
        Field(min_length=1, description="globs relative to the folder; hidden and half-written names never match"),
    ] = ("**/*",)
    quiet: Duration = Field(timedelta(seconds=60), description="a file counts when it stayed the same for so long")
    marker: str | None = Field(
        None, pattern=r"^[^/]+$", description="files of a folder count only when it holds a file of this name"
    )
    max_files: int = Field(1000, ge=1, le=100_000, description="most files of one run; the next run takes the rest")
    max_total: Size = Field(5_000_000_000, description="most bytes of one run; the next run takes the rest")
    same_name: Literal["replace", "refuse"] = Field(
        "replace", description="what to do with a new version of a file that was loaded"
    )
    options: dict[str, Scalar] = Field(
        default_factory=dict, description="storage options without secrets, for instance endpoint_url or anon"
    )
