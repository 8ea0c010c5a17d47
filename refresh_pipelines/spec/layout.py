"""A table made for people, and what its cells are: where the header is, which column holds what, what a blank means.

A layout says everything; nothing is guessed. What a sheet holds beyond it is refused by `parse.survey`.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from refresh_pipelines.spec.base import Model

Percent = Literal["hundred", "fraction", "by_format"]


class Taken(Model):
    """A text of the sheet itself, in place of a fixed one: a cell's, or another one in each row."""

    cell: str | None = Field(None, pattern=r"^[A-Z]{1,3}[1-9]\d{0,6}$", description="address of one cell: A1")
    column: str | None = Field(None, description="header text of the column that holds it in each row")
    match: str | None = Field(None, description="regular expression whose one group is the text")
    date: bool = Field(False, description="a date, which a workbook may store as a number of days")

    @model_validator(mode="after")
    def _one_place(self) -> Taken:
        if (self.cell is None) == (self.column is None):
            raise ValueError("needs exactly one of cell and column")
        if self.date and self.match:
            raise ValueError("date and match exclude each other")
        return self

    @field_validator("match")
    @classmethod
    def _one_group(cls, value: str | None) -> str | None:
        try:
            groups = re.compile(value or "()").groups
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        if groups != 1:
            raise ValueError(f"match needs one group in brackets, not {groups}")
        return value


class Measure(Model):
    """One column of values."""

    measure: str
    unit: str
    category: str | None = Field(None, description="code of the category the column stands for")
    period: str | None = Field(None, description="in place of the layout's, where periods stand side by side")
    percent: Percent | None = Field(
        None,
        description="how a percentage is stored: as 12.5, as 0.125, or as the cell's number format says; read as 12.5",
    )


class Layout(Model):
    """One kind of table. Header texts are compared without regard to case, accents and white space."""

    name: str
    file: str = Field("*", description="glob for the file's name")
    sheet: str = Field("*", description="glob for the sheet's name; a CSV has none")
    hidden: bool = Field(False, description="also read a sheet that is hidden")
    header: tuple[int, int] = Field(description="first and last row of the header, counted from 1")
    survey_code: str
    table_code: str
    wave: str | Taken
    period: str | Taken
    zone: str = Field(description="header text of the column of zones")
    zone_level: str = Field(description="level of a zone that is not among format.zones")
    unknown_zone: Literal["keep", "refuse"] = Field(
        "keep", description="a zone without a code: load it without one and say so, or refuse the file"
    )
    category: str | None = Field(None, description="header text of a column of categories, one in each row")
    categories: dict[str, str] = Field(default_factory=dict, description="code of each text in that column")
    columns: dict[str, Measure] = Field(min_length=1, description="header text, levels joined by ' / ': what it holds")
    ignore: tuple[str, ...] = Field((), description="header texts of columns that are not loaded")
    missing: tuple[str, ...] = Field(("-", "…", "...", "nd", "n.d.", "n.d"), description="texts that mean no value")
    decimal: Literal[",", "."] = Field(",", description="mark of the decimals in numbers written as text")
    notes: tuple[str, ...] = Field(
        ("Source", "Note", "NB", "*"), description="beginnings of the first cell of the lines under the table"
    )

    @model_validator(mode="after")
    def _whole(self) -> Layout:
        first, last = self.header
        if not 1 <= first <= last <= first + 9:
            raise ValueError("header is the first and the last row of at most ten, counted from 1")
        if bool(self.category) != bool(self.categories):
            raise ValueError("category and categories go together")
        for text, column in self.columns.items():
            if (column.category is None) != bool(self.category):
                raise ValueError(f"column {text!r} needs a category, unless the layout has a column of categories")
        return self
