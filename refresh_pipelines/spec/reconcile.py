"""One indicator from several sources: which rows of each, in which unit, and how far they may lie apart."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from refresh_pipelines.spec.base import TABLE_NAME, Model

# What each row of a reconciled table has beside its key; `columns` reads from these.
_OURS = ("unit", "given", "place")
RESULT = ("value", "source", "priority", "alternatives", "spread", "disagreement")


def _as_factors(value: Any) -> Any:
    """Read `{kg/ha: 1, hg/ha: 0.1}`; raise ValueError unless every unit has a number above 0."""
    if not isinstance(value, dict):
        return value
    for unit, factor in value.items():
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not (0 < factor < math.inf):
            raise ValueError(f"units: the factor of {unit} must be a number above 0")
    return {str(unit): float(factor) for unit, factor in value.items()}


class Reconcile(Model):
    """A table with one value for each key, chosen by the sources' priority, beside what the others say."""

    key: tuple[str, ...] = Field(min_length=1, description="columns that every select gives and that name a value")
    sources: dict[str, str] = Field(
        min_length=2, description="required source: SELECT of the key's columns, value and, with units, unit"
    )
    units: Annotated[dict[str, float], BeforeValidator(_as_factors)] = Field(
        default_factory=dict, description="unit: what a value in it is multiplied by; others are refused"
    )
    tolerance: Annotated[str, Field(pattern=r"^\d{1,3}(\.\d+)?%$")] = Field(
        description="share of the largest value that values may lie apart without being called a disagreement: 2%"
    )

    @field_validator("key")
    @classmethod
    def _plain(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not TABLE_NAME.fullmatch(name) or name in (*RESULT, *_OURS):
                others = ", ".join((*RESULT, *_OURS))
                raise ValueError(f"key: {name} must match {TABLE_NAME.pattern} and be none of {others}")
        return value

    @property
    def share(self) -> float:
        """The tolerance as a number: 0.02."""
        return float(self.tolerance[:-1]) / 100
