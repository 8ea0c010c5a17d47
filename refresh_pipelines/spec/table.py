"""What the rows are, and how accepted ones change the table."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import AliasChoices, Field, field_validator, model_validator

from refresh_pipelines.spec.base import Model

# Of strptime, what means the same on every platform and comes out again as it went in.
DIRECTIVES = "YmdHMSyjbBaApI%"


class Column(Model):
    """One column of the raw table, and where its text comes from."""

    type: str = Field(
        pattern=r"^(text|int|bigint|double|bool|date|timestamp|timestamptz|json|decimal\(\d{1,2},\s*\d{1,2}\))$"
    )
    source: str | tuple[str, ...] | None = Field(
        None,
        validation_alias=AliasChoices("from", "source"),
        serialization_alias="from",
        description=(
            "name of the field in the payload, dotted path in JSON, or '{partition name}'; a list of fields is joined "
            "by spaces; default: the column's name"
        ),
    )
    format: str | None = Field(None, description="strptime format of a date or timestamp; default ISO 8601")
    missing: tuple[str, ...] = Field(("",), description="texts that mean 'no value'; the empty text always does")
    strip: bool = Field(True, description="remove white space around the text")
    nullable: bool = True
    optional: bool = Field(False, description="a payload may lack the field altogether; it is then missing in each row")
    equals: str | None = Field(
        None, description="the text each row must have here, for instance '{station}': others answer another question"
    )
    unit: str | None = None
    min: float | None = None
    max: float | None = None
    description: str = ""

    def fields(self, name: str) -> tuple[str, ...]:
        """Return the payload's fields that the column `name` is read from, usually one."""
        if isinstance(self.source, tuple):
            return self.source
        return (self.source or name,)

    @model_validator(mode="after")
    def _fits_type(self) -> Column:
        if isinstance(self.source, tuple) and len(self.source) < 2:
            raise ValueError("from is one field's name or a list of several")
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
    duplicates: Literal["identical", "refuse", "last"] = Field(
        "identical",
        description="rows with one merge key: collapse them if identical in every column, refuse them, or take each "
        "column's last value that is not missing",
    )
    drift: Literal["evolve", "ignore", "freeze"] = "ignore"
    reject_share: float = Field(0, ge=0, le=1)
    history: bool = False
    volatile: tuple[str, ...] = Field((), description="columns whose change alone is no change")
    skip_missing: tuple[str, ...] = Field((), description="a row without a value in one of these columns is no row")
