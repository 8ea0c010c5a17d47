"""Rules for columns: their names, who refers to them, and where their text comes from."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from zoneinfo import available_timezones

from refresh_pipelines.draft import Draft
from refresh_pipelines.problems import Problem, did_you_mean
from refresh_pipelines.rules.timing import is_zone
from refresh_pipelines.rules.values import is_value
from refresh_pipelines.spec import Column
from refresh_pipelines.yamlpos import Loc

# PostgreSQL keeps 63 characters of a name; a leading _ is for the columns every load adds.
_COLUMN_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


def check_column_names(draft: Draft) -> Iterator[Problem]:
    """Column names are plain and leave the load's own names alone."""
    for name in draft.column_names:
        if name.startswith("_"):
            message = f"the column {name} begins with _, as only the load's own columns do"
            yield draft.problem(("columns", name), message, "name it without, and say from:", key=True)
        elif not _COLUMN_NAME.fullmatch(name):
            message = f"the column name {name} must match {_COLUMN_NAME.pattern}"
            yield draft.problem(("columns", name), message, "keep the payload's name in from:", key=True)


def check_demands(draft: Draft) -> Iterator[Problem]:
    """What a column demands of its values can be met: zones exist, bounds and allowed values are of the type."""
    for name, column in draft.columns.items():
        loc = ("columns", name)
        if column.timezone is not None and not is_zone(column.timezone):
            hint = did_you_mean(column.timezone, available_timezones()) or "an IANA name such as Europe/Paris"
            yield draft.problem((*loc, "timezone"), f"unknown time zone {column.timezone}", hint)
        for key in ("min", "max"):
            bound = getattr(column, key)
            if isinstance(bound, str) and not is_value(bound, column.type):
                hint = "for instance 2000-01-01" + ("" if column.type == "date" else " or 2000-01-01T00:00:00")
                yield draft.problem((*loc, key), f"{key} of {name} is no {column.type}: {bound}", hint)
        yield from _check_enum(draft, loc, name, column)
        if column.pattern is not None and column.enum:
            yield draft.problem((*loc, "pattern"), "enum says all values: pattern has nothing to add", key=True)
    for index, field in enumerate(draft.load.ignore):
        reader = next((name for name, column in draft.columns.items() if field in column.fields(name)), None)
        if reader:
            yield draft.problem(("load", "ignore", index), f"the column {reader} reads the field {field}")


def _check_enum(draft: Draft, loc: Loc, name: str, column: Column) -> Iterator[Problem]:
    if draft.wrote("columns", name, "enum") and not column.enum:
        yield draft.problem((*loc, "enum"), f"enum of {name} allows nothing", "list the values there may be", key=True)
    for index, value in enumerate(column.enum):
        if not is_value(value, column.type):
            yield draft.problem((*loc, "enum", index), f"enum of {name}: {value} is no {column.type}")
        elif value in column.enum[:index]:
            yield draft.problem((*loc, "enum", index), f"enum of {name}: {value} stands twice")
        elif value in ("", *column.missing) or (column.strip and value != value.strip()):
            yield draft.problem((*loc, "enum", index), f"enum of {name}: {value!r} is never a value of it")


def check_columns_named(draft: Draft) -> Iterator[Problem]:
    """Whatever names a column names one that is declared, and once."""
    if not draft.column_names:
        return
    for loc in (("merge_key",), ("load", "volatile"), ("load", "skip_missing")):
        seen: set[str] = set()
        for index, name in enumerate(_listed(draft, loc)):
            yield from _check_name(draft, (*loc, index), name)
            if name in seen:
                yield draft.problem((*loc, index), f"{name} stands twice in {loc[-1]}")
            seen.add(name)
    for key in ("present", "keep"):
        for name in getattr(draft.expect, key):
            yield from _check_name(draft, ("expect", key, name), name)
    if draft.partitions and draft.partitions.column:
        yield from _check_name(draft, ("partitions", "column"), draft.partitions.column)


def _listed(draft: Draft, loc: tuple[str, ...]) -> tuple[str, ...]:
    if loc == ("merge_key",):
        return draft.sections.get("merge_key") or ()
    return draft.load.volatile if loc[-1] == "volatile" else draft.load.skip_missing


def _check_name(draft: Draft, loc: Loc, name: str) -> Iterator[Problem]:
    if name not in draft.column_names:
        where = ".".join(part for part in loc if isinstance(part, str))
        yield draft.problem(loc, f"{where}: {name} is not among the columns", did_you_mean(name, draft.column_names))


def check_fields(draft: Draft) -> Iterator[Problem]:
    """Columns of a CSV without a header come from its declared fields; encodings exist."""
    chosen = draft.format
    if chosen is None:
        return
    for key, name in (("encoding", chosen.encoding), ("fallback", chosen.fallback)):
        if name is not None and not _is_encoding(name):
            yield draft.problem(("format", key), f"{name} is no encoding Python knows", "for instance utf-8 or latin-1")
    for index, field in enumerate(chosen.fields):
        if field in chosen.fields[:index]:
            yield draft.problem(("format", "fields", index), f"the field {field} stands twice")
    for name, column in draft.columns.items() if chosen.kind == "csv" and chosen.fields else ():
        for origin in column.fields(name):
            if origin not in chosen.fields and not re.fullmatch(r"\{[^{}]*\}", origin):
                yield draft.problem(
                    ("columns", name, "from") if column.source else ("columns", name),
                    f"{origin} is not among format.fields",
                    did_you_mean(origin, chosen.fields),
                    key=not column.source,
                )


def _is_encoding(name: str) -> bool:
    try:
        return codecs.lookup(name)._is_text_encoding
    except (LookupError, ValueError):
        return False
