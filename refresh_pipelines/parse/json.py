"""JSON into batches of text: numbers keep the digits they were written with."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from refresh_pipelines.body import excerpt, lookup
from refresh_pipelines.errors import ContractViolation, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.parse.encoding import is_utf8, not_encoded
from refresh_pipelines.parse.notes import Notes
from refresh_pipelines.redact import redact
from refresh_pipelines.spec import Format, SourceSpec

BATCH = 50_000


class _Number(str):
    """A number as it was written."""

    __slots__ = ()


# One for all: `json.loads` would make a new one for each line.
_DECODER = json.JSONDecoder(parse_float=_Number, parse_int=_Number, parse_constant=_Number)


def loads(text: str) -> Any:
    """Return a JSON text with its numbers as they were written. Raises ValueError, RecursionError."""
    return _DECODER.decode(text)


def read_json(stream: io.BufferedReader, form: Format, spec: SourceSpec, notes: Notes) -> Iterator[pa.RecordBatch]:
    """Yield the objects of the list at `form.rows`; columns are their members and declared dotted paths.

    Fields of `form.document` stand in each row, and hide members of the same name.

    Raises:
        UpstreamUnavailable: an empty body, or a document that breaks off.
        UpstreamRefused: the declared error member is there.
        ContractViolation: no list of objects where `form.rows` points, text in another encoding, or
            nesting that no table is made of.
    """
    document = read_document(stream.read(), form, notes)
    rows = rows_of(document, form, spec.request.paging.total if spec.request.paging else None)
    if form.published:
        notes.published = text_of(lookup(document, form.published)) or notes.published
    shared = {name: text_of(lookup(document, path)) for name, path in form.document.items()}
    names = [name for name in members(rows, spec) if name not in shared]
    for begin in range(0, len(rows), BATCH):
        piece = rows[begin : begin + BATCH]
        arrays = [strings([text_of(value_at(row, name)) for row in piece]) for name in names]
        arrays += [pa.repeat(strings([value])[0], len(piece)) for value in shared.values()]
        yield pa.RecordBatch.from_arrays(arrays, names=strings([*names, *shared]).to_pylist())


def read_document(body: bytes, form: Format, notes: Notes) -> Any:
    """Return a JSON document whose numbers are texts. Raises as `read_json` does."""
    try:
        text = _decoded(body, form, notes)
        return loads(text)
    except RecursionError as error:
        raise ContractViolation("the JSON document is nested too deeply", came=excerpt(body, 60)) from error
    except ValueError as error:
        what = "is empty" if not body.strip() else "is no complete JSON document"
        raise UpstreamUnavailable(
            f"the answer {what}",
            expected="a JSON document",
            came=f"{len(body)} bytes beginning {excerpt(body, 60)} ({error})",
            todo="It may have been cut off: a later try may pass.",
        ) from error


def _decoded(body: bytes, form: Format, notes: Notes) -> str:
    encoding = (json.detect_encoding(body) or "utf-8") if is_utf8(form.encoding) else form.encoding
    try:
        return body.decode(encoding)
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            raise  # cut in the middle of a character
        if not form.fallback:
            raise not_encoded("the JSON document", form, error) from error
        notes.fallbacks += 1
        return body.decode(form.fallback)


def strings(values: Sequence[str | None]) -> pa.Array:
    """Return texts as an array, with a mark in place of half a surrogate pair."""
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        # Half a surrogate pair, as a text cut between two \u escapes leaves it.
        whole = [v and v.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for v in values]
        return pa.array(whole, pa.string())


def rows_of(document: Any, form: Format, total: str | None = None) -> list[dict[str, Any]]:
    """Return the rows of a document; none where its own `total` says that there are none. Raises as `read_json`."""
    said = lookup(document, form.error) if form.error else None
    if said and said != _Number(0):
        raise UpstreamRefused(
            "the upstream answered with an error",
            expected=f"a list at {form.rows!r}",
            came=redact(text_of(said) or ""),
            todo="Check the request, and the key if there is one, against the source's documentation.",
        )
    rows = lookup(document, form.rows)
    if rows is None and total and lookup(document, total) == _Number(0):
        return []
    if not isinstance(rows, list):
        raise ContractViolation(
            "the JSON document has not the declared shape",
            expected=f"a list at {form.rows!r}" if form.rows else "a list",
            came=_shape(document if rows is None else rows),
            todo="Compare the payload with the sample; if the layout has changed, adjust format.rows.",
        )
    wrong = [row for row in rows if not isinstance(row, dict)][:1]
    if wrong:
        raise ContractViolation("a row is no object", expected="a list of objects", came=_shape(wrong[0]))
    return rows


def _shape(value: Any) -> str:
    if isinstance(value, dict):
        return "an object with " + (", ".join(list(value)[:12]) or "no members")
    return "null" if value is None else f"{type(value).__name__} {str(value)[:60]!r}"


def members(rows: list[dict[str, Any]], spec: SourceSpec) -> list[str]:
    """Return every member's name in order of first appearance, and the dotted paths that lead anywhere."""
    names = dict.fromkeys(name for row in rows for name in row)
    for column, declared in spec.columns.items():
        for path in declared.fields(column):
            if "." in path and path not in names and any(has(row, path) for row in rows):
                names[path] = None
    return list(names)


def has(row: dict[str, Any], path: str) -> bool:
    """Whether a dotted path leads to a member of a row, be it null."""
    parent, _, leaf = path.rpartition(".")
    inner = lookup(row, parent)
    return isinstance(inner, dict) and leaf in inner


def value_at(row: dict[str, Any], name: str) -> Any:
    """Return a row's member, or what a dotted path leads to."""
    return row[name] if name in row else lookup(row, name) if "." in name else None


def text_of(value: Any) -> str | None:
    """Return a JSON value as text: itself, or as it would be written."""
    if value is None or isinstance(value, str):
        return value
    return _written(value)


def _written(value: Any) -> str:
    """Write JSON as `json.dumps` would, but numbers with the digits they came with."""
    if isinstance(value, _Number):
        return value
    if isinstance(value, dict):
        return "{" + ",".join(f"{_written(k)}:{_written(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
