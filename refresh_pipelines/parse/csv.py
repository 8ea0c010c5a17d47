"""CSV into batches of text: every value stays the text it was."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from refresh_pipelines.bytewise import bytes_of, trimmed
from refresh_pipelines.errors import ContractViolation, UpstreamRefused
from refresh_pipelines.parse.chosen import Chosen, mask
from refresh_pipelines.parse.encoding import is_utf8, not_encoded
from refresh_pipelines.parse.notes import Notes
from refresh_pipelines.spec import Format

BLOCK = 4 << 20
# Columns are read as bytes so that one stray latin-1 value does not stop a UTF-8 file; those past
# this number Arrow would read as whatever it takes them for.
MOST_COLUMNS = 4096
_NO_CHOICE: Mapping[str, tuple[str, ...]] = {}
_LINE_END = re.compile(rb"\r\n|\n|\r")


def read_csv(
    stream: io.BufferedReader, form: Format, notes: Notes, chosen: Chosen = _NO_CHOICE
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a CSV, named by its header row or, without one, by `form.fields`.

    Args:
        chosen: fields and their texts; other rows are passed over as bytes, without a look at their other fields.

    Raises:
        ContractViolation: a row with another number of fields than the rest, or a repeated header
            name, or a value that cannot be decoded.
        UpstreamRefused: nothing but white space.
    """
    names: list[str] | None = list(form.fields) or None
    headed = names is None
    first = 1 if names else 0  # rows are counted without the header
    for batch in _batches(stream, form):
        if names is None:
            cells = [_decode(column.slice(0, 1), form, notes, [0]) for column in batch.columns]
            names = _header([cell[0].as_py() or "" for cell in cells])
            batch, first = batch.slice(1), 1  # noqa: PLW2901 - the rest of it
        if batch.num_columns != len(names):
            raise _wrong_width(len(names), batch.num_columns, form)
        every = range(first, first + batch.num_rows)
        numbers: Sequence[int] = every
        first += batch.num_rows
        if chosen:
            batch, numbers = _chosen(batch, names, chosen, form, notes, every)  # noqa: PLW2901
        rows = _decoded(batch, names, form, notes, numbers)
        yield _without_headers(rows, form, notes, numbers) if headed and len(names) > 1 else rows


def _decoded(
    batch: pa.RecordBatch, names: list[str], form: Format, notes: Notes, numbers: Sequence[int]
) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([_decode(column, form, notes, numbers) for column in batch.columns], names=names)


def _chosen(
    batch: pa.RecordBatch, names: list[str], chosen: Chosen, form: Format, notes: Notes, numbers: range
) -> tuple[pa.RecordBatch, list[int]]:
    """Return the chosen rows and their numbers; a header among the others is told as if all were chosen."""
    encodings = ["utf-8", *([form.fallback] if form.fallback else [])]
    keep = mask(batch.columns, names, chosen, encodings)
    again = pc.indices_nonzero(mask(batch.columns, names, {name: [name] for name in chosen})).to_pylist()
    if again and not form.fields:
        headers = _decoded(batch.take(again), names, form, Notes(), [numbers[place] for place in again])
        _without_headers(headers, form, notes, [numbers[place] for place in again])
    kept = pc.indices_nonzero(keep)
    notes.passed_over += batch.num_rows - len(kept)
    return batch.take(kept), [numbers[place] for place in kept.to_pylist()]


def _without_headers(rows: pa.RecordBatch, form: Format, notes: Notes, numbers: Sequence[int]) -> pa.RecordBatch:
    """Refuse or drop rows that say what the header says; a single column may well hold its own name."""
    again = pc.equal(trimmed(rows.column(0), bytes_of(rows.column(0))), rows.schema.names[0])
    for place, name in enumerate(rows.schema.names):
        if not pc.any(again).as_py():
            return rows
        again = pc.and_(again, pc.equal(pc.utf8_trim_whitespace(rows.column(place)), name))
    places = pc.indices_nonzero(again).to_pylist()
    if places and form.repeated_header == "refuse":
        raise ContractViolation(
            f"the header comes again as row {numbers[places[0]]}",
            expected="one header, at the beginning",
            came=", ".join(rows.schema.names),
            todo="The file may be two that were joined. If it is in order, declare format.repeated_header: skip.",
        )
    notes.headers += len(places)
    return rows.filter(pc.invert(again))


def _head(stream: io.BufferedReader, form: Format) -> bytes:
    head = stream.peek(BLOCK)
    return _LINE_END.split(head, form.skip_lines)[-1] if form.skip_lines else head


def _most_fields(stream: io.BufferedReader, form: Format) -> int:
    """Return how many fields a row can have, read off a plain first line: declaring thousands takes milliseconds."""
    first, *rest = _LINE_END.split(_head(stream, form).lstrip(b"\r\n"), 1)
    plain = rest and is_utf8(form.encoding) and not (form.quote and form.quote.encode() in first)
    return first.count(form.delimiter.encode()) + 1 if plain else MOST_COLUMNS


def _refuse_too_wide(stream: io.BufferedReader, form: Format) -> None:
    """Refuse at first sight what Arrow would need minutes for: JSON on one line is a CSV of many thousand fields."""
    head = _head(stream, form)
    if form.quote:
        quote = re.escape(form.quote.encode())
        head = re.sub(b"%b[^%b]*(%b|$)" % (quote, quote, quote), b"", head)
    fields = _LINE_END.split(head, 1)[0].count(form.delimiter.encode()) + 1
    if fields > MOST_COLUMNS:
        raise _wrong_width(len(form.fields) or MOST_COLUMNS, fields, form)


def _batches(stream: io.BufferedReader, form: Format) -> Iterator[pa.RecordBatch]:
    _refuse_too_wide(stream, form)
    most = _most_fields(stream, form)
    types = {f"f{i}": pa.binary() for i in range(most)}
    encoding = "utf-8" if is_utf8(form.encoding) else form.encoding
    try:
        reader = csv.open_csv(
            stream,
            csv.ReadOptions(
                autogenerate_column_names=True, block_size=BLOCK, skip_rows=form.skip_lines, encoding=encoding
            ),
            csv.ParseOptions(
                delimiter=form.delimiter, quote_char=form.quote or False, newlines_in_values=bool(form.quote)
            ),
            csv.ConvertOptions(column_types=types, strings_can_be_null=False),
        )
        if len(reader.schema) > most:
            raise _wrong_width(len(form.fields) or MOST_COLUMNS, len(reader.schema), form)
        yield from _ahead(reader)
    except pa.ArrowInvalid as error:
        raise _from_arrow(error, form) from error
    except UnicodeDecodeError as error:
        raise not_encoded("the CSV", form, error) from error


def _ahead(reader: csv.CSVStreamingReader) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a long file, of which the next is read while somebody works on the last."""
    batch = next(reader, None)
    if batch is not None and batch.nbytes < BLOCK // 4:
        yield batch  # nearly always all there is: not worth a thread
        batch = next(reader, None)
    if batch is None:
        return
    with ThreadPoolExecutor(1) as pool:
        while batch is not None:
            following = pool.submit(next, reader, None)
            yield batch
            batch = following.result()


def _from_arrow(error: pa.ArrowInvalid, form: Format) -> ContractViolation | UpstreamRefused:
    text = " ".join(str(error).split())[:300]
    if "Empty CSV" in text:
        return UpstreamRefused(
            "the CSV holds nothing",
            expected="rows",
            came="only white space",
            todo="Look at the address in a browser.",
        )
    return ContractViolation(
        "the CSV is not regular",
        expected=f"{len(form.fields)} fields in every row"
        if form.fields
        else "as many fields in every row as in the header",
        came=text,
        todo="Compare the payload with the sample; if the layout has changed, adjust format and columns.",
    )


def _wrong_width(expected: int, came: int, form: Format) -> ContractViolation:
    return ContractViolation(
        "the CSV has another number of fields",
        expected=f"{expected} fields ({form.fields[0]} … {form.fields[-1]})" if form.fields else f"{expected} fields",
        came=f"{came} fields or more" if came > MOST_COLUMNS else f"{came} fields",
        todo="The layout has changed: compare with the source's description, then adjust format.fields and columns.",
    )


def _header(names: list[str]) -> list[str]:
    names = [name.strip() for name in names]
    repeated = sorted({name for name in names if names.count(name) > 1 and name})
    if repeated:
        raise ContractViolation(
            "the header names a field twice", expected="different names", came=", ".join(repeated),
            todo="Declare format.fields and format.skip_lines: 1 to name the fields by position.",
        )  # fmt: skip
    return [name or f"unnamed_{i}" for i, name in enumerate(names, 1)]


def _decode(column: pa.Array, form: Format, notes: Notes, numbers: Sequence[int]) -> pa.Array:
    try:
        return pc.cast(column, pa.string())
    except pa.ArrowInvalid:
        return _decode_each(column, form, notes, numbers)


def _decode_each(column: pa.Array, form: Format, notes: Notes, numbers: Sequence[int]) -> pa.Array:
    out: list[str] = []
    for number, value in zip(numbers, column.to_pylist(), strict=True):
        try:
            out.append(value.decode())
        except UnicodeDecodeError as error:
            if form.fallback is None:
                raise not_encoded(f"row {number}" if number else "the header", form, error) from error
            try:
                out.append(value.decode(form.fallback))
            except UnicodeDecodeError as second:
                raise not_encoded(f"row {number}", form, second) from second
            notes.fallbacks += 1
    return pa.array(out, pa.string())
