"""JSON lines into batches of text: one object on each line, however many there are, in memory that does not grow."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from refresh_pipelines.body import excerpt
from refresh_pipelines.errors import ContractViolation, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.parse.encoding import is_utf8, not_encoded
from refresh_pipelines.parse.json import loads, members, strings, text_of, value_at
from refresh_pipelines.parse.notes import Notes
from refresh_pipelines.spec import Format, SourceSpec

PIECE = 1 << 20
LONGEST_LINE = 64 << 20
# Whichever comes first makes a batch.
ROWS, BYTES = 20_000, 4 << 20
_COMPARE = "Compare the payload with the sample; one broken line is often a file that was joined or cut by hand."
Row = dict[str, Any]


def read_jsonl(stream: io.BufferedReader, form: Format, spec: SourceSpec, notes: Notes) -> Iterator[pa.RecordBatch]:
    """Yield the objects of all lines; columns are their members, and declared dotted paths.

    Lines end with LF, CRLF or CR; empty ones are passed over. A declared field stands in every batch, also
    where no line of the batch has it; if no line at all has it, an empty last batch without it says so.

    Raises:
        UpstreamUnavailable: the last line has no end and is no whole object.
        UpstreamRefused: nothing but empty lines.
        ContractViolation: a line that is no object, with its number.
    """
    seen: dict[str, None] = {}
    for rows in _batches(stream, form, notes):
        found = members(rows, spec)
        seen.update(dict.fromkeys(found))
        names = list(dict.fromkeys([*found, *_declared(spec)]))
        arrays = [strings([text_of(value_at(row, name)) for row in rows]) for name in names]
        rows.clear()  # they are not needed beside the next ones
        yield pa.RecordBatch.from_arrays(arrays, names=strings(names).to_pylist())
    if not seen:
        raise UpstreamRefused(
            "the file holds no JSON line",
            expected="one JSON object on each line",
            came="nothing but empty lines",
            todo="Look at where the file comes from; it may have been written without any rows.",
        )
    if not set(seen).issuperset(_declared(spec)):
        yield pa.RecordBatch.from_arrays([pa.array([], pa.string())] * len(seen), names=strings(list(seen)).to_pylist())


def _declared(spec: SourceSpec) -> list[str]:
    """Return the fields that columns read from the payload itself."""
    names = [name for column, declared in spec.columns.items() for name in declared.fields(column)]
    return [name for name in names if not name.startswith("{")]


def _batches(stream: io.BufferedReader, form: Format, notes: Notes) -> Iterator[list[Row]]:
    rows: list[Row] = []
    size = 0
    for number, line, whole in lines(stream, form):
        if not line.strip():
            continue
        rows.append(_row(line, number, whole, form, notes))
        size += len(line)
        if len(rows) >= ROWS or size >= BYTES:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


def lines(stream: io.BufferedReader, form: Format) -> Iterator[tuple[int, bytes, bool]]:
    """Yield each line's number from 1, its bytes in UTF-8, and whether it has an end."""
    source: Any = stream
    if not is_utf8(form.encoding):
        source = pa.transcoding_input_stream(pa.PythonFile(stream, "r"), form.encoding, "utf-8")
    rest, number = b"", 0
    while piece := source.read(PIECE):
        # A CR at the very end may be half of a CRLF: it waits for the next piece.
        text, held = (rest + piece[:-1], b"\r") if piece.endswith(b"\r") else (rest + piece, b"")
        whole = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        rest = whole.pop() + held
        if len(rest) > LONGEST_LINE:
            raise _broken(number + len(whole) + 1, f"more than {LONGEST_LINE} bytes without an end")
        for line in whole:
            number += 1
            yield number, line, True
    if rest:
        yield number + 1, rest.rstrip(b"\r"), rest.endswith(b"\r")


def _row(line: bytes, number: int, whole: bool, form: Format, notes: Notes) -> Row:
    try:
        row = loads(_decoded(line, number, form, notes))
    except RecursionError as error:
        raise _broken(number, "an object that is nested too deeply") from error
    except ValueError as error:
        if whole:
            raise _broken(number, f"{excerpt(line, 60)} ({error})") from error
        raise UpstreamUnavailable(
            f"line {number} breaks off at the end of the file",
            expected="one JSON object on each line",
            came=f"{excerpt(line, 60)} ({error})",
            todo="The file may still be being written, or was cut: a later try may pass.",
        ) from error
    if not isinstance(row, dict):
        raise _broken(number, f"{type(row).__name__} {excerpt(line, 60)}")
    return row


def _decoded(line: bytes, number: int, form: Format, notes: Notes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        if not form.fallback:
            raise not_encoded(f"line {number}", form, error) from error
        notes.fallbacks += 1
        return line.decode(form.fallback)


def _broken(number: int, came: str) -> ContractViolation:
    return ContractViolation(
        f"line {number} is no JSON object", expected="one JSON object on each line", came=came, todo=_COMPARE
    )
