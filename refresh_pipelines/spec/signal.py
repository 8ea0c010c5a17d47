"""What an upstream says elsewhere of the version of its data: an entry of its catalogue, asked before the payload."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator

from refresh_pipelines.spec.base import Model
from refresh_pipelines.spec.chosen import Where


class Signal(Model):
    """A JSON document that is asked first; while its values stay the same, the payload is not asked for."""

    url: str = Field(description="address of the JSON document")
    rows: str = Field("", description="dotted path to the list of its entries; empty: the document itself")
    where: Where = Field(default_factory=dict, description="field: text of the one entry that is meant")
    value: Annotated[
        tuple[str, ...],
        BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
    ] = Field(min_length=1, description="fields of the entry that change when the payload does")
    address: str | None = Field(
        None, description="field of the entry that holds the payload's address, in place of request.url"
    )

    @field_validator("value")
    @classmethod
    def _named(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(value):
            raise ValueError("value names fields of the entry")
        return value
