"""Rule for the {fields} in texts: each one is known, and formatted in a way it can be."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from refresh_pipelines.draft import Draft
from refresh_pipelines.problems import Problem, did_you_mean
from refresh_pipelines.spec import Request
from refresh_pipelines.yamlpos import Loc

_DROP: Loc = ("request", "drop", "url")
_INSTANT = datetime(2024, 1, 1, tzinfo=timezone.utc)


def known_fields(draft: Draft) -> dict[str, Any]:
    """Return what `{...}` may name in this source, each with a value of the kind it will have."""
    fields: dict[str, Any] = {k: v for k, v in draft.params.items() if isinstance(v, str | int | float)}
    partitions = draft.partitions
    if draft.request and draft.request.each:
        fields[draft.request.each.name] = "x"
    if draft.request and draft.request.drop:
        fields["file"] = "x"
    if partitions is None:
        return fields
    fields["partition"] = "x"
    if partitions.dimension:
        fields[partitions.dimension] = "x"
    if partitions.start is not None:
        fields["start"] = _INSTANT
    if partitions.time:
        fields["end"] = _INSTANT
    return fields


def check_placeholders(draft: Draft) -> Iterator[Problem]:
    """Every field of the request and of a column's `from` is one the refresh will have."""
    if "partitions" in draft.bad:
        return
    fields = known_fields(draft)
    dimension = draft.partitions.dimension if draft.partitions else None
    each = draft.request.each.name if draft.request and draft.request.each else None
    for name in draft.params:
        if name in {"partition", "start", "end", dimension, each}:
            message = (
                f"the param {name} has the name of a field that the {'request' if name == each else 'partition'} fills"
            )
            yield draft.problem(("params", name), message, "call it something else", key=True)
    if each and each in {"partition", "start", "end", dimension}:
        yield draft.problem(
            ("request", "each"), f"the partition fills {each} already", "call it something else", key=True
        )
    for loc, text in [*_texts(draft.request), *_texts_of_where(draft)]:
        yield from _check_text(draft, loc, text, fields)
    for name, column in draft.columns.items():
        # A field name in the payload may hold braces; only a text that is one field stands for it.
        if isinstance(column.source, str) and re.fullmatch(r"\{[^{}]*\}", column.source):
            yield from _check_text(draft, ("columns", name, "from"), column.source, fields)
        if column.equals is not None:
            yield from _check_text(draft, ("columns", name, "equals"), column.equals, fields)


def _texts_of_where(draft: Draft) -> Iterator[tuple[Loc, str]]:
    for name, texts in draft.format.where.items() if draft.format else ():
        yield from ((("format", "where", name), text) for text in texts)


def fields_used(request: Request) -> set[str]:
    """Return the names that a request's texts put in braces."""
    used: set[str] = set()
    for _, text in _texts(request):
        try:
            used |= {name for _, name, _, _ in string.Formatter().parse(text) if name}
        except ValueError:
            continue  # `check_placeholders` says so
    return used


def _texts(request: Request | None) -> Iterator[tuple[Loc, str]]:
    if request is None:
        return
    folder = request.drop.url if request.drop else None
    yield from ((loc, url) for loc, url in ((("request", "url"), request.url), (_DROP, folder)) if url is not None)
    for index, url in enumerate(request.urls):
        yield ("request", "urls", index), url
    yield from _texts_of_signal(request)
    for section, values in (("params", request.params), ("headers", request.headers)):
        for name, value in values.items():
            if isinstance(value, str):
                yield ("request", section, name), value
    if isinstance(request.body, str):
        return  # text of any language, where braces are common: nothing is filled in
    for name, value in (request.body or {}).items():
        if isinstance(value, str):
            yield ("request", "body", name), value


def _texts_of_signal(request: Request) -> Iterator[tuple[Loc, str]]:
    if request.signal is None:
        return
    yield ("request", "signal", "url"), request.signal.url
    for name, texts in request.signal.where.items():
        yield from ((("request", "signal", "where", name), text) for text in texts)


def _check_text(draft: Draft, loc: Loc, text: str, fields: dict[str, Any]) -> Iterator[Problem]:
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError:
        yield draft.problem(loc, "a { without its }, or the other way round", "write {{ and }} for braces themselves")
        return
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if name not in fields:
            hint = did_you_mean(name, fields) if fields else "this source has neither partitions nor params"
            yield draft.problem(loc, f"{{{name}}} is not known here", hint)
        elif conversion or not _formats(fields[name], spec or ""):
            hint = "instants take {start:%Y-%m-%d}; others stand as they are"
            yield draft.problem(loc, f"{{{name}}} cannot be formatted this way", hint)


def _formats(value: Any, spec: str) -> bool:
    if "{" in spec:
        return False
    try:
        format(value, spec)
    except ValueError:
        return False
    return not isinstance(value, datetime) or not spec or "%" in spec
