"""What the rows are, and how accepted ones change the table."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from refresh_pipelines.spec.base import Model

# Of strptime, what means the same on every platform and comes out again as it went in.
DIRECTIVES = "YmdHMSyjbBaApI%"
# What Python's expressions know and RE2's do not: looking around, going back, and giving nothing back.
_ESCAPED = re.compile(r"\\[^1-9]|\[\^?\]?[^\]]*\]")
_TWO_WAYS = re.compile(r"\(\?(?:[=!>(]|<[=!]|P=)|\\[1-9]|[*+?}]\+")


def _as_bound(value: object) -> object:
    """Return a bound as a number, or as the text of a day or an instant, which YAML may have read already."""
    if isinstance(value, bool):
        raise ValueError("must be a number, a date or a time")  # noqa: TRY004 - pydantic tells of ValueError
    if isinstance(value, date):
        return value.isoformat()
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _as_allowed(value: object) -> object:
    """Return a value of `enum` as the text it stands for, also where YAML has read it as something else."""
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, date) else str(value) if isinstance(value, int | float) else value


def _groups(key: str, expression: str) -> int:
    """Return how many groups an expression has; raise ValueError unless RE2 reads it as Python does."""
    try:
        groups = re.compile(expression).groups
    except re.error as error:
        raise ValueError(f"{key} {expression!r} is no regular expression: {error}") from error
    if found := _TWO_WAYS.search(_ESCAPED.sub("_", expression)):
        raise ValueError(f"{key} {expression!r} has {found[0]}, which RE2 does not know")
    return groups


Bound = Annotated[float | str, BeforeValidator(_as_bound)]
Allowed = Annotated[str, BeforeValidator(_as_allowed), WithJsonSchema({"type": ["string", "number", "boolean"]})]


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
    extract: str | None = Field(
        None, description="regular expression with one group, whose text is read; where it is not found, there is none"
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
    min: Bound | None = Field(None, description="least value: a number, a day or an instant")
    max: Bound | None = Field(None, description="greatest value: a number, a day or an instant")
    enum: tuple[Allowed, ...] = Field((), description="all values there may be")
    pattern: str | None = Field(None, description="regular expression that the whole text fits, in RE2's syntax")
    max_length: int | None = Field(None, ge=1, description="most characters of a text")
    timezone: str | None = Field(None, description="IANA zone of times that are written without an offset")
    ambiguous: Literal["refuse", "first", "last"] = Field(
        "refuse", description="which instant a local time is that comes twice when clocks are set back"
    )
    nonexistent: Literal["refuse", "shift"] = Field(
        "refuse", description="a local time that clocks skip: refuse it, or read it as if they had not been set yet"
    )
    description: str = ""

    @property
    def undeclared(self) -> tuple[str, ...]:
        """Keys that came later than others and say nothing here: they change no source's hash."""
        later = ("extract", "enum", "pattern", "max_length", "timezone", "ambiguous", "nonexistent")
        return tuple(name for name in later if getattr(self, name) == Column.model_fields[name].default)

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
        self._check_bounds()
        self._check_text()
        self._check_zone()
        return self

    @model_validator(mode="before")
    @classmethod
    def _texts_are_texts(cls, raw: Any) -> Any:
        """Refuse `enum: [01, no]` of a text column: YAML has read a number and a bool."""
        if isinstance(raw, dict) and raw.get("type") == "text" and isinstance(raw.get("enum"), list | tuple):
            other = next((value for value in raw["enum"] if not isinstance(value, str)), None)
            if other is not None:
                raise ValueError(f"enum of a text column holds texts, not {other} (put it in quotes)")
        return raw

    def _check_bounds(self) -> None:
        bounds = [bound for bound in (self.min, self.max) if bound is not None]
        if not bounds:
            return
        numbers, times = self.type.startswith(("int", "big", "dou", "dec")), self.type.startswith(("date", "timestamp"))
        if not (numbers or times):
            raise ValueError(f"min and max go with numbers, dates and times, not with {self.type}")
        wrong = next((bound for bound in bounds if isinstance(bound, str) is numbers), None)
        if wrong is not None:
            hint = "such as 10" if numbers else "such as 2000-01-01"
            raise ValueError(f"min and max of a column of type {self.type} are values of it, not {wrong} ({hint})")
        if numbers and self.min is not None and self.max is not None and float(self.min) > float(self.max):
            raise ValueError(f"min {self.min:g} is greater than max {self.max:g}")

    def _check_text(self) -> None:
        if (self.pattern is not None or self.max_length is not None) and self.type != "text":
            raise ValueError(f"pattern and max_length go with text, not with {self.type}")
        if self.enum and self.type == "json":
            raise ValueError("enum does not go with json")
        for key, expression in (("pattern", self.pattern), ("extract", self.extract)):
            if expression is not None:
                groups = _groups(key, expression)
                if key == "extract" and groups != 1:
                    raise ValueError(f"extract needs one group in brackets, not {groups}")

    def _check_zone(self) -> None:
        if self.timezone is not None and self.type != "timestamptz":
            raise ValueError(f"timezone goes with timestamptz, not with {self.type}")
        for key in ("ambiguous", "nonexistent"):
            if getattr(self, key) != "refuse" and self.timezone is None:
                raise ValueError(f"{key} goes with timezone")

    def _check_format(self, pattern: str) -> None:
        if self.type == "timestamptz" and self.timezone is None:
            raise ValueError(
                "format cannot be used with timestamptz, because it reads no zone: name the timezone that is meant, "
                "or leave it out for ISO 8601 text with an offset"
            )
        if self.type not in ("date", "timestamp", "timestamptz"):
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

    mode: Literal["merge", "replace_partition", "snapshot", "append"] = Field(
        "merge",
        description="merge: insert and update; replace_partition: also delete what is gone from the partition; "
        "snapshot: also delete what is gone from the source; append: only insert",
    )
    duplicates: Literal["identical", "refuse", "last"] = Field(
        "identical",
        description="rows with one merge key: collapse them if identical in every column, refuse them, or take each "
        "column's last value that is not missing",
    )
    drift: Literal["evolve", "ignore", "freeze"] = Field(
        "ignore",
        description="a field that no column reads: name it in the notes, stop the load, or make it a text column",
    )
    ignore: tuple[str, ...] = Field((), description="fields that may be there and that no column is to read")
    reject_share: float = Field(
        0, ge=0, le=1, description="share of rows that may break the contract; they go to quarantine.<table>"
    )
    history: bool = Field(False, description="keep every version of a row, in history.<table>")
    volatile: tuple[str, ...] = Field((), description="columns whose change alone is no change")
    skip_missing: tuple[str, ...] = Field((), description="a row without a value in one of these columns is no row")
