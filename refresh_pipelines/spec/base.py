"""What all models of the grammar share: frozen, no unknown keys, and durations, sizes and rates as text."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

from refresh_pipelines.units import format_duration, parse_duration, parse_rate, parse_size

TABLE_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
LONGEST = timedelta(days=3650)


def as_duration(value: object) -> timedelta:
    """Read a duration of at most `LONGEST`; raise ValueError otherwise."""
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
    BeforeValidator(as_duration),
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
