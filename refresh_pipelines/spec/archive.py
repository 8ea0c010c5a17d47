"""What is kept of a source's payloads, how long, and what of them is never kept."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, field_validator

from refresh_pipelines.spec.base import Duration, Model, Size


class Archive(Model):
    """How payloads are kept. The accepted payload of each partition stays whatever is said here."""

    keep: Duration = Field(timedelta(days=400), description="older payloads are removed, but for accepted ones")
    max_bytes: Size = Field(
        2_000_000_000, description="most bytes on disk for the source; the oldest payloads go first, but for accepted"
    )
    redact: tuple[str, ...] = Field(
        (), description="fields of a row whose values are masked before anything is kept, read or loaded"
    )

    @field_validator("redact")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(name.strip() for name in value) or len(set(value)) != len(value):
            raise ValueError("redact names a field twice, or an empty one")
        return value
